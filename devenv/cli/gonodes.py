"""What a template of Go's does once it is read: closures over the value that is shown and the variables."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.cli import gofunctions

Variables = collections.ChainMap[str, Any]


class Scope(NamedTuple):
    dot: Any
    variables: Variables

    def within(self, dot: Any) -> Scope:
        return Scope(dot, self.variables.new_child())


Value = Callable[[Scope], Any]
Node = Callable[[Scope], str]


class _Leave(Exception):
    """``break`` and ``continue``."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self.text = ""  # what was written before


def text(text: str) -> Node:
    return lambda _: text


def constant(value: Any) -> Value:
    return lambda _: value


def sequence(nodes: list[Node]) -> Node:
    def run(scope: Scope) -> str:
        text = ""
        for node in nodes:
            try:
                text += node(scope)
            except _Leave as leave:
                leave.text = text + leave.text
                raise
        return text

    return run


def printing(value: Value) -> Node:
    def run(scope: Scope) -> str:
        found = value(scope)
        return "" if found is _NOTHING else gofunctions.show(found)

    return run


_NOTHING = object()  # what an assignment prints


def assignment(name: str, value: Value, *, new: bool) -> Value:
    def run(scope: Scope) -> Any:
        maps = scope.variables.maps
        place = maps[0] if new else next((each for each in maps if name in each), None)
        if place is None:
            raise errors.UsageError(f"`{name}` in `--format` is not set")
        place[name] = value(scope)
        return _NOTHING

    return run


def variable(name: str, names: list[str]) -> Value:
    def find(scope: Scope) -> Any:
        if name not in scope.variables:
            raise errors.UsageError(f"`{name}` in `--format` is not set")
        return scope.variables[name]

    return fields(find, names)


def fields(value: Value, names: list[str]) -> Value:
    """Of what is missing in a map of somebody's own names (labels, ports) there is nothing, as in Go; a field of
    docker's, with its capital, is misspelt."""

    def run(scope: Scope) -> Any:
        found = value(scope)
        for name in names:
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, Mapping) and not name[0].isupper():
                found = ""
            else:
                known = f"it has {', '.join(sorted(found))}" if isinstance(found, Mapping) and found else None
                raise errors.UsageError(f"there is no field `.{'.'.join(names)}`", hint=known)
        return found

    return run


def deciding(operands: list[Value], *, until: bool) -> Value:
    """``and`` and ``or``: the value that decides; those behind it are not looked at."""

    def run(scope: Scope) -> Any:
        found = None
        for each in operands:
            found = each(scope)
            if gofunctions.truth(found) == until:
                break
        return found

    return run


def if_(names: tuple[str, ...], value: Value, body: Node, otherwise: Node) -> Node:
    return lambda scope: _chosen(names, value, body, otherwise, scope, moves=False)


def with_(names: tuple[str, ...], value: Value, body: Node, otherwise: Node) -> Node:
    return lambda scope: _chosen(names, value, body, otherwise, scope, moves=True)


def _chosen(names: tuple[str, ...], value: Value, body: Node, otherwise: Node, scope: Scope, *, moves: bool) -> str:
    found = value(scope)
    inner = scope.within(found if moves and gofunctions.truth(found) else scope.dot)
    inner.variables.update(dict.fromkeys(names, found))
    return body(inner) if gofunctions.truth(found) else otherwise(inner)


def range_(names: tuple[str, ...], value: Value, body: Node, otherwise: Node) -> Node:
    def run(scope: Scope) -> str:
        pairs = _pairs(value(scope))
        if not pairs:
            return otherwise(scope.within(scope.dot))
        text = ""
        for key, each in pairs:
            inner = scope.within(each)
            # One name is the element's, two are the key's and the element's.
            inner.variables.update(zip(names, (key, each)[-len(names) :] if names else (), strict=True))
            try:
                text += body(inner)
            except _Leave as leave:
                text += leave.text
                if leave.whole:
                    break
        return text

    return run


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    if value is None or value == "":
        return []
    raise errors.UsageError(f"`range` in `--format` can't go over {gofunctions.show(value)}")


def leaving(*, whole: bool) -> Node:
    def run(_: Scope) -> str:
        raise _Leave(whole=whole)

    return run


def label(key: Value) -> Value:
    """``{{.Label "KEY"}}`` of docker's lists, whose labels are one string."""

    def run(scope: Scope) -> Any:
        if not isinstance(scope.dot, Mapping) or not isinstance(labels := scope.dot.get("Labels"), str):
            raise errors.UsageError("`.Label` in `--format` has no labels here")
        pairs = (each.partition("=") for each in labels.split(","))
        return next((value for name, _, value in pairs if name == key(scope)), "")

    return run
