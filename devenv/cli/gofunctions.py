"""What Go's templates can call (text/template's, and docker's additions), and how Go prints and compares values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from devenv import errors

_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")
_NUMBERS = (int, float)
NIL = "<nil>"


def show(value: Any, *, nothing: str = "<no value>") -> str:
    """As Go prints it."""
    if value is None:
        return nothing
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{show(each, nothing=NIL)}' for key, each in sorted(value.items()))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(show(each, nothing=NIL) for each in value)}]"
    return str(value)


def truth(value: Any) -> bool:
    """Zero, nothing and what is empty are false."""
    return bool(value)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(type(value))
    return "number" if isinstance(value, _NUMBERS) else type(value).__name__


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("it compares two values or more")
    for other in others:
        if first is not None and other is not None and _kind(first) != _kind(other):
            raise TypeError(f"{json.dumps(first)} and {json.dumps(other)} are of different kinds")
    return any(first == other for other in others)


def _less(first: Any, second: Any) -> bool:
    if _kind(first) != _kind(second) or not isinstance(first, (*_NUMBERS, str)) or isinstance(first, bool):
        raise TypeError(f"{json.dumps(first)} and {json.dumps(second)} have no order")
    return bool(first < second)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        # A key that a map lacks gives Go's zero value.
        value = value.get(key, "") if isinstance(value, Mapping) else value[_whole(key)]
    return value


def _whole(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise IndexError(f"{number} is no place in a list")
    return number


def _slice(value: Any, *ends: Any) -> Any:
    start, end = (*map(_whole, ends), *(0, len(value))[len(ends) :])[:2]
    if not 0 <= start <= end <= len(value):
        raise IndexError(f"{start}:{end} is not in its {len(value)}")
    return value[start:end]


def _print(*values: Any) -> str:
    """Blanks stand between what are no strings."""
    text = ""
    for before, value in zip((None, *values), values, strict=False):
        apart = text and not isinstance(before, str) and not isinstance(value, str)
        text += f"{' ' if apart else ''}{show(value, nothing='<nil>')}"
    return text


def _printf(form: str, *values: Any) -> str:
    left = list(values)

    def fill(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not left:
            raise TypeError(f"`{form}` wants more values")
        value = left.pop(0)
        number = {"d": "d", "x": "x", "X": "X", "o": "o", "f": "f", "e": "e", "g": "g"}.get(verb)
        places = f".{precision}" if precision else ""
        if number and not isinstance(value, (*_NUMBERS, bool)):
            raise TypeError(f"%{verb} of {json.dumps(value)}, which is no number")
        if number:
            return str(f"%{flags}{width}{places}{number}" % value)
        if verb not in {"s", "v", "q", "t"}:
            raise TypeError(f"%{verb} is not understood")
        text = json.dumps(value, ensure_ascii=False) if verb == "q" else show(value, nothing=NIL)
        return f"%{flags.replace('0', '')}{width}{places}s" % text

    text = _VERB.sub(fill, form)
    if left:
        raise TypeError(f"`{form}` wants fewer values")
    return text


def _truncate(text: str, length: int) -> str:
    return text[: _whole(length)]


def _pad(text: str, before: int, after: int) -> str:
    return f"{' ' * before}{text}{' ' * after}" if text else ""


def _length(value: Any) -> int:
    return len(value.encode()) if isinstance(value, str) else len(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _less,
    "le": lambda first, second: not _less(second, first),
    "gt": lambda first, second: _less(second, first),
    "ge": lambda first, second: not _less(first, second),
    "not": lambda value: not truth(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(show(each, nothing=NIL) for each in values) + "\n",
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "join": lambda values, separator: separator.join(map(show, values)),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: str(text).upper(),
    "lower": lambda text: str(text).lower(),
    "title": lambda text: str(text).title(),
    "pad": _pad,
    "truncate": _truncate,
}


def call(name: str, arguments: list[Any]) -> Any:
    try:
        return FUNCTIONS[name](*arguments)
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as exc:
        raise errors.UsageError(f"`{name}` in `--format` can't be used on this: {exc}") from exc
