"""Go's templates as scripts use them with docker: ``--format '{{range .Mounts}}{{.Source}} {{end}}'``.

    text, actions ──lex──▶ items ──parse──▶ closures over a scope ──run──▶ text

Fields, variables, literals, pipes, brackets, ``if``, ``range``, ``with``, ``else``, ``break``, ``continue``, comments
and trimming are Go's; what can be called is in ``gofunctions``, what the closures do in ``gonodes``. ``define``,
``template`` and ``block`` are refused: one ``--format`` has no use for them. ``table`` in front prints headings.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.cli import gofunctions, gonodes

_OPEN = re.compile(r"\{\{(-(?=\s))?")
# An action up to its end, which may also stand in a string.
_ACTION = re.compile(r'((?:"(?:[^"\\]|\\.)*"|`[^`]*`|(?!\s-\}\}|\}\}).)*)((?:\s-)?)\}\}', re.DOTALL)
_COMMENT = re.compile(r"(\s*/\*.*?\*/)((?:\s-)?)\}\}", re.DOTALL)
_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<sign>:=|[()|=,])'
    r"|(?P<chain>\$\w*(?:\.\w+)*|(?:\.\w+)+|\.)|(?P<word>[A-Za-z_]\w*))"
)
_VARIABLE = re.compile(r"\$\w+")
_REFUSED = frozenset({"define", "template", "block"})
_CONSTANTS = {"true": True, "false": False, "nil": None}
_HEADING = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Token(NamedTuple):
    kind: str
    text: str
    touches: bool  # what comes before


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
    headings = compiled(_Headings()).split("\t")
    if any(line.count("\t") + 1 != len(headings) for line in lines):
        raise errors.UsageError(r"a `table` template has its columns separated by `\t`")
    return table.render(headings, [line.split("\t") for line in lines])


class _Headings(dict[str, Any]):
    """In place of a row: each field's name, in words."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return _HEADING.sub(" ", name).upper()


def compile_template(text: str) -> Callable[[Any], str]:
    """Raises ``UsageError`` for what isn't understood; what it returns, for what doesn't fit the value."""
    parser = _Parser(list(_lex(text)))
    body, end = parser.block()
    if end:
        raise errors.UsageError(f"`--format` has a `{{{{{end}}}}}` that ends nothing")
    return lambda value: body(gonodes.Scope(value, collections.ChainMap({"$": value})))


# -- reading ----------------------------------------------------------------------------------------------------------


def _lex(text: str) -> Iterator[tuple[bool, str]]:
    """Whether it is an action, and the text of it."""
    position, trim = 0, False
    while True:
        start = _OPEN.search(text, position)
        plain = text[position : start.start() if start else len(text)]
        if trim:
            plain = plain.lstrip()
        if start is None:
            yield False, plain
            return
        yield False, plain.rstrip() if start[1] else plain
        comment = _COMMENT.match(text, start.end())
        action = comment or _ACTION.match(text, start.end())
        if action is None:
            raise errors.UsageError(f"`--format {text}` has a `{{{{` that isn't closed")
        position, trim = action.end(), bool(action[2])
        if comment is None:
            yield True, action[1].strip()


def _tokens(action: str) -> list[Token]:
    found: list[Token] = []
    position = 0
    while position < len(action):
        match = _TOKEN.match(action, position)
        if match is None:
            raise _not_understood(action)
        kind = str(match.lastgroup)
        word = Token(kind, match[kind], touches=match.start(kind) == position)
        if found and word.touches and not _may_touch(found[-1], word):
            raise _not_understood(action)
        found.append(word)
        position = match.end()
    return found


def _may_touch(before: Token, word: Token) -> bool:
    """Words that touch each other are none, as in `.a"b"`."""
    return "sign" in {before.kind, word.kind}


def _not_understood(action: str) -> errors.UsageError:
    return errors.UsageError(f"`{{{{{action}}}}}` is not understood in `--format`", hint="use `--format json` and jq")


class _Parser:
    def __init__(self, items: list[tuple[bool, str]]) -> None:
        self._items = items
        self._next = 0
        self._loops = 0

    def block(self) -> tuple[gonodes.Node, str]:
        """Up to the ``end`` or ``else`` that it doesn't hold itself; "" at the end of all."""
        nodes: list[gonodes.Node] = []
        while self._next < len(self._items):
            is_action, text = self._items[self._next]
            self._next += 1
            if not is_action:
                nodes.append(gonodes.text(text))
                continue
            word = re.match(r"\w*", text)
            keyword = word[0] if word else ""
            if keyword in {"end", "else"}:
                return gonodes.sequence(nodes), text
            nodes.append(self._action(keyword, text))
        return gonodes.sequence(nodes), ""

    def _action(self, keyword: str, text: str) -> gonodes.Node:
        if keyword in _REFUSED:
            raise errors.UsageError(f"`{{{{{keyword}}}}}` has no use in `--format`")
        if keyword in {"break", "continue"}:
            if text != keyword or not self._loops:
                raise _not_understood(text)
            return gonodes.leaving(whole=keyword == "break")
        if keyword in {"if", "with", "range"}:
            return self._branch(keyword, text.removeprefix(keyword), text)
        return gonodes.printing(_Expression(text).pipeline())

    def _branch(self, keyword: str, condition: str, text: str) -> gonodes.Node:
        expression = _Expression(condition, whole=text)
        names, value = expression.declared(most=2 if keyword == "range" else 1)
        self._loops += keyword == "range"
        body, end = self.block()
        self._loops -= keyword == "range"
        otherwise = gonodes.text("")
        words = end.split(None, 1)
        if words[:1] == ["else"]:
            if len(words) == 1:
                otherwise, end = self.block()
            elif words[1].split()[0] in {"if", "with"} and keyword in {"if", "with"}:
                inner = words[1].split()[0]
                return {"if": gonodes.if_, "with": gonodes.with_}[keyword](
                    names, value, body, self._branch(inner, words[1].removeprefix(inner), end)
                )
            else:
                raise _not_understood(end)
        if end != "end":
            raise errors.UsageError(f"`{{{{{text}}}}}` in `--format` has no `{{{{end}}}}`")
        return {"if": gonodes.if_, "with": gonodes.with_, "range": gonodes.range_}[keyword](
            names, value, body, otherwise
        )


class _Expression:
    """One action's words."""

    def __init__(self, text: str, *, whole: str = "") -> None:
        self._text = whole or text
        self._tokens = _tokens(text)
        self._next = 0

    def declared(self, *, most: int) -> tuple[tuple[str, ...], gonodes.Value]:
        """``$index, $element := pipeline``; without names too."""
        for count in range(1, most + 1):
            head = [each.text for each in self._tokens[: 2 * count]]
            names, signs = tuple(head[::2]), head[1::2]
            if signs == [*[","] * (count - 1), ":="] and all(map(_VARIABLE.fullmatch, names)):
                self._next = len(head)
                return names, self.pipeline()
        return (), self.pipeline()

    def pipeline(self) -> gonodes.Value:
        """The whole action."""
        head = [each.text for each in self._tokens[self._next : self._next + 2]]
        if len(head) == 2 and _VARIABLE.fullmatch(head[0]) and head[1] in {":=", "="}:
            self._next += 2
            return gonodes.assignment(head[0], self._commands(inner=False), new=head[1] == ":=")
        return self._commands(inner=False)

    def _commands(self, *, inner: bool) -> gonodes.Value:
        value: gonodes.Value | None = None
        while True:
            value = self._command(value)
            if self._next == len(self._tokens):
                if inner:
                    raise _not_understood(self._text)
                return value
            sign = self._tokens[self._next].text
            self._next += 1
            if sign == ")" and inner:
                return value
            if sign != "|":
                raise _not_understood(self._text)

    def _command(self, piped: gonodes.Value | None) -> gonodes.Value:
        operands: list[gonodes.Value] = []
        function = ""
        while self._next < len(self._tokens) and self._tokens[self._next].text not in {")", "|"}:
            kind, word, _ = self._tokens[self._next]
            if kind == "word" and word not in _CONSTANTS and not operands and not function:
                if word not in gofunctions.FUNCTIONS and word not in {"and", "or"}:
                    raise _not_understood(self._text)
                function = word
                self._next += 1
            else:
                operands.append(self._operand())
        if piped is not None and (operands or function):
            operands.append(piped)
        if function in {"and", "or"} and operands:
            return gonodes.deciding(operands, until=function == "or")
        if function:
            return lambda scope: gofunctions.call(function, [each(scope) for each in operands])
        if len(operands) == 2 and self._tokens[0].text == ".Label":
            return gonodes.label(operands[1])
        if len(operands) != 1:
            raise errors.UsageError(f"`{{{{{self._text}}}}}` in `--format` calls what is no function")
        return operands[0]

    def _operand(self) -> gonodes.Value:
        kind, word, _ = self._tokens[self._next]
        self._next += 1
        if kind == "string":
            return gonodes.constant(_string(word, self._text))
        if kind == "number":
            return gonodes.constant(float(word) if "." in word else int(word))
        if kind == "word" and word in _CONSTANTS:
            return gonodes.constant(_CONSTANTS[word])
        if kind == "word" and word in gofunctions.FUNCTIONS:  # without arguments, among those of another
            return lambda _: gofunctions.call(word, [])
        if kind == "chain":
            variable, _, fields = word.partition(".")
            names = [name for name in fields.split(".") if name]
            return gonodes.variable(variable, names) if variable else gonodes.fields(lambda scope: scope.dot, names)
        if word == "(":
            value = self._commands(inner=True)
            rest = self._tokens[self._next : self._next + 1]
            if rest and rest[0].touches and rest[0].text.startswith("."):  # (index .Mounts 0).Source
                self._next += 1
                return gonodes.fields(value, [name for name in rest[0].text.split(".") if name])
            return value
        raise _not_understood(self._text)


def _string(word: str, action: str) -> str:
    if word[0] == "`":
        return word[1:-1]
    try:
        return str(json.loads(word, strict=False))
    except ValueError:
        raise _not_understood(action) from None
