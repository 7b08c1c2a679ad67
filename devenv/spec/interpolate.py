"""``${NAME}`` in values: after YAML is read and before files are merged, so that a value is text until then.

    $NAME  ${NAME}          the value, or empty with a warning
    ${NAME:-word}  ${NAME-word}    word when unset or empty / when unset
    ${NAME:+word}  ${NAME+word}    word when set and not empty / when set
    ${NAME:?word}  ${NAME?word}    an error that says word when unset or empty / when unset
    $$                      one $

``word`` may hold such expressions itself. Keys are never touched. Attributes that are numbers or booleans get
their type back afterwards (`CASTS`), also where the file has them in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from devenv.spec import diagnostic, scalars

Lookup = Callable[[str], "str | None"]
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")
DEEPEST = 40


class BadTemplate(ValueError):
    """Not an expression: ``${1x}``, or one that is not closed."""


class Required(ValueError):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"the variable `{name}` is required" + (f": {message}" if message else ""))
        self.name = name


class Variable(NamedTuple):
    name: str
    default: str = ""
    alternate: str = ""
    required: bool = False


def substitute(text: str, lookup: Lookup, *, warn: Callable[[str], None] | None = None) -> str:
    """``text`` with its expressions replaced. Raises ``BadTemplate`` or ``Required``."""
    return _substitute(text, lookup, warn, 0)


def _substitute(text: str, lookup: Lookup, warn: Callable[[str], None] | None, depth: int) -> str:
    if "$" not in text:
        return text
    if depth > DEEPEST:
        raise BadTemplate(f"expressions are nested deeper than {DEEPEST} levels")
    found: list[str] = []
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0:
            found.append(text[position:])
            return "".join(found)
        found.append(text[position:dollar])
        after = text[dollar + 1 : dollar + 2]
        if after == "$":
            found.append("$")
            position = dollar + 2
        elif after == "{":
            end = _closing(text, dollar + 1)
            found.append(_braced(text[dollar + 2 : end], lookup, warn, depth))
            position = end + 1
        else:
            match = _NAME.match(text, dollar + 1)
            if match is None:
                found.append("$")
                position = dollar + 1
            else:
                found.append(_plain(match[0], lookup, warn))
                position = match.end()


def _closing(text: str, opening: int) -> int:
    depth = 0
    for index in range(opening, len(text)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    raise BadTemplate(f"`{text[opening - 1 : opening + 40]}` is not closed by `}}`")


def _plain(name: str, lookup: Lookup, warn: Callable[[str], None] | None) -> str:
    value = lookup(name)
    if value is None:
        if warn is not None:
            warn(name)
        return ""
    return value


def _braced(body: str, lookup: Lookup, warn: Callable[[str], None] | None, depth: int) -> str:
    name, operator, word = _split(body)
    if not operator:
        return _plain(name, lookup, warn)
    value = lookup(name)
    there = value is not None and (value != "" or not operator.startswith(":"))
    kind = operator[-1]
    if kind == "+":
        return _substitute(word, lookup, warn, depth + 1) if there else ""
    if there:
        return value or ""
    filled = _substitute(word, lookup, warn, depth + 1)
    if kind == "?":
        raise Required(name, filled)
    return filled


def _split(body: str) -> tuple[str, str, str]:
    match = _NAME.match(body)
    operator = _OPERATOR.match(body, match.end()) if match else None
    if match is None or (match.end() != len(body) and operator is None):
        raise BadTemplate(f"`${{{body[:60]}}}` is no variable")
    if operator is None:
        return match[0], "", ""
    return match[0], operator[0], body[operator.end() :]


def variables(value: Any) -> dict[str, Variable]:
    """Every variable that the values mention, with its default; the last mention wins."""
    found: dict[str, Variable] = {}
    if isinstance(value, str):
        _mentioned(value, found)
    elif isinstance(value, dict):
        for item in value.values():
            found.update(variables(item))
    elif isinstance(value, list):
        for item in value:
            found.update(variables(item))
    return found


def _mentioned(text: str, found: dict[str, Variable]) -> None:
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        after = text[dollar + 1 : dollar + 2]
        position = dollar + 2
        if after == "{":
            try:
                end = _closing(text, dollar + 1)
                name, operator, word = _split(text[dollar + 2 : end])
            except BadTemplate:
                continue
            kind = operator[-1:]
            found[name] = Variable(name, word if kind == "-" else "", word if kind == "+" else "", required=kind == "?")
            _mentioned(word, found)
            position = end + 1
        elif after != "$" and (match := _NAME.match(text, dollar + 1)):
            found[match[0]] = Variable(match[0])
            position = match.end()


Cast = Callable[[str], Any]
_S: tuple[str, ...] = ("services", "*")
_WHOLE = (
    "cpu_count cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares deploy.replicas "
    "deploy.update_config.parallelism deploy.rollback_config.parallelism deploy.restart_policy.max_attempts "
    "deploy.placement.max_replicas_per_node healthcheck.retries oom_score_adj pids_limit ports.[].target scale "
    "ulimits.* ulimits.*.hard ulimits.*.soft"
)
_REAL = "cpu_percent cpus deploy.update_config.max_failure_ratio deploy.rollback_config.max_failure_ratio"
_BOOLEAN = (
    "init depends_on.*.required depends_on.*.restart healthcheck.disable oom_kill_disable privileged read_only "
    "stdin_open tty volumes.[].read_only volumes.[].volume.nocopy"
)
_TOP = (
    "networks.*.external networks.*.internal networks.*.attachable networks.*.enable_ipv4 networks.*.enable_ipv6 "
    "volumes.*.external secrets.*.external configs.*.external"
)


class _Casts:
    """A tree of attribute names, so that a value's cast is found while walking."""

    __slots__ = ("cast", "names")

    def __init__(self) -> None:
        self.names: dict[str, _Casts] = {}
        self.cast: Cast | None = None

    def add(self, path: tuple[str, ...], cast: Cast) -> None:
        node = self
        for part in path:
            node = node.names.setdefault(part, _Casts())
        node.cast = cast

    def step(self, name: str) -> _Casts | None:
        return self.names.get(name) or self.names.get("*")


def _casts() -> _Casts:
    tree = _Casts()
    for paths, cast in ((_WHOLE, scalars.whole), (_REAL, scalars.real), (_BOOLEAN, scalars.boolean)):
        for path in paths.split():
            tree.add((*_S, *path.split(".")), cast)
    for path in _TOP.split():
        tree.add(tuple(path.split(".")), scalars.boolean)
    return tree


CASTS = _casts()


def interpolate(value: dict[str, Any], environment: Mapping[str, str], report: diagnostic.Report) -> dict[str, Any]:
    """A copy of the file's values, with variables filled in. What is wrong goes to ``report``."""
    walker = _Walker(environment, report)
    return {name: walker.walk(item, CASTS.names.get(name), (name,)) for name, item in value.items()}


class _Walker:
    def __init__(self, environment: Mapping[str, str], report: diagnostic.Report) -> None:
        self.lookup = environment.get
        self.report = report

    def walk(self, value: Any, casts: _Casts | None, path: diagnostic.Path) -> Any:
        kind = type(value)
        if kind is str:
            if casts is None and "$" not in value:
                return value
            return self.fill(value, casts.cast if casts is not None else None, path)
        if kind is dict:
            if casts is None:
                return {name: self.walk(item, None, (*path, name)) for name, item in value.items()}
            return {name: self.walk(item, casts.step(name), (*path, name)) for name, item in value.items()}
        if kind is list:
            inner = casts.names.get("[]") if casts is not None else None
            return [self.walk(item, inner, (*path, index)) for index, item in enumerate(value)]
        return value

    def fill(self, text: str, cast: Cast | None, path: diagnostic.Path) -> Any:
        try:
            filled = substitute(text, self.lookup, warn=self._unset)
            return filled if cast is None else cast(filled)
        except Required as problem:
            self.report.add(path, str(problem), hint=f"set it: `export {problem.name}=…`, or in `.env`", value=text)
        except BadTemplate as problem:
            self.report.add(path, str(problem), hint="write `$$` for a plain dollar sign", value=text)
        except ValueError as problem:
            self.report.add(path, f"`{diagnostic.dotted(path)}`: {problem}", value=text)
        return text

    def _unset(self, name: str) -> None:
        self.report.warn(f'the variable "{name}" is not set; it counts as empty')
