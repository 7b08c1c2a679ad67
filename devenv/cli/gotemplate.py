"""The part of Go's templates that scripts use with docker: ``--format '{{.ID}}: {{json .Config.Env}}'``.

Fields, string literals, pipes, and the functions json, index, join, split, upper, lower, title, len and println.
``table`` in front prints headings. Control flow (if, range, with) is refused by name: ``--format json`` and jq do more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from devenv import errors

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\(|\)|\||\d+|\.[\w.]*|[A-Za-z_]\w*)')
_CONTROL = frozenset({"if", "else", "end", "range", "with", "define", "template", "block"})
_HEADING = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def is_template(text: str) -> bool:
    return "{{" in text


def render_rows(template: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """One line a row; with ``table`` in front aligned columns under headings."""
    from devenv.cli import table

    is_table = template.startswith("table ")
    compiled = compile_template(template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n"))
    lines = [compiled(row) for row in rows]
    if not is_table:
        return "".join(f"{line}\n" for line in lines)
    names = _ACTION.findall(template)
    headings = [_HEADING.sub(" ", name.rpartition(".")[2]).upper() for name in names]
    if any(line.count("\t") + 1 != len(headings) for line in lines):
        raise errors.UsageError(r"a `table` template has its columns separated by `\t`")
    return table.render(headings, [line.split("\t") for line in lines])


def compile_template(text: str) -> Callable[[Any], str]:
    """Raises ``UsageError`` for what isn't understood."""
    parts: list[str | list[list[Any]]] = []
    position = 0
    for match in _ACTION.finditer(text):
        parts += [text[position : match.start()], _parse(match[1])]
        position = match.end()
    parts.append(text[position:])
    if any(isinstance(part, str) and "{{" in part for part in parts):
        raise errors.UsageError(f"`--format {text}` has a `{{{{` that isn't closed")

    def run(value: Any) -> str:
        return "".join(part if isinstance(part, str) else _show(_evaluate(part, value)) for part in parts)

    return run


def _parse(action: str) -> list[list[Any]]:
    """A pipeline: commands, each a list of words; a word in brackets is a pipeline again."""
    position = 0
    stack: list[list[list[Any]]] = [[[]]]
    while position < len(action):
        match = _TOKEN.match(action, position)
        if match is None:
            raise _not_understood(action)
        word, position = match[1], match.end()
        if word in _CONTROL:
            raise errors.UsageError(
                f"`{{{{{word}}}}}` is not understood in `--format`", hint="use `--format json` and jq"
            )
        if word == "(":
            stack.append([[]])
        elif word == ")" and len(stack) > 1:
            inner = stack.pop()
            stack[-1][-1].append(("pipe", inner))
        elif word == "|":
            stack[-1].append([])
        elif word[0] in '"`':
            stack[-1][-1].append(("value", json.loads(word) if word[0] == '"' else word[1:-1]))
        elif word.isdecimal():
            stack[-1][-1].append(("value", int(word)))
        elif word[0] == ".":
            stack[-1][-1].append(("field", [name for name in word.split(".") if name]))
        elif word in _FUNCTIONS:
            stack[-1][-1].append(("function", word))
        else:
            raise _not_understood(action)
    if len(stack) != 1 or not all(stack[0]):
        raise _not_understood(action)
    return stack[0]


def _not_understood(action: str) -> errors.UsageError:
    return errors.UsageError(f"`{{{{{action}}}}}` is not understood in `--format`", hint="use `--format json` and jq")


def _evaluate(pipeline: list[list[Any]], dot: Any) -> Any:
    passed: list[Any] = []
    for command in pipeline:
        (kind, first), *rest = command
        arguments = [_value(word, dot) for word in rest] + passed
        if kind == "function":
            try:
                passed = [_FUNCTIONS[first](*arguments)]
            except (TypeError, KeyError, IndexError, AttributeError) as exc:
                raise errors.UsageError(f"`{first}` in `--format` can't be used on this: {exc}") from exc
        else:
            if arguments:
                raise errors.UsageError("a field in `--format` takes no arguments")
            passed = [_value((kind, first), dot)]
    return passed[0]


def _value(word: tuple[str, Any], dot: Any) -> Any:
    kind, given = word
    if kind == "field":
        for name in given:
            if not isinstance(dot, Mapping) or name not in dot:
                known = f"it has {', '.join(sorted(dot))}" if isinstance(dot, Mapping) and dot else None
                raise errors.UsageError(f"there is no field `.{'.'.join(given)}`", hint=known)
            dot = dot[name]
        return dot
    if kind == "pipe":
        return _evaluate(given, dot)
    return _FUNCTIONS[given]() if kind == "function" else given


def _show(value: Any) -> str:
    """As Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_show(each)}' for key, each in sorted(value.items()))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_show, value))}]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        # A key that a map lacks gives Go's zero value.
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":")),
    "index": _index,
    "join": lambda values, separator: separator.join(map(_show, values)),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: str(text).upper(),
    "lower": lambda text: str(text).lower(),
    "title": lambda text: str(text).title(),
    "len": len,
    "println": lambda *values: " ".join(map(_show, values)) + "\n",
    "print": lambda *values: "".join(map(_show, values)),
}
