"""Patterns as Go's ``filepath.Match`` and ``filepath.Clean`` read them: what COPY and ADD name files with.

``*`` and ``?`` stop at a slash, ``[^a-z]`` doesn't, ``\\`` takes away a meaning; there is no ``**``.
"""

from __future__ import annotations

import functools
import re

# What Go's strings.TrimSpace takes away.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class BadPattern(ValueError):
    """The message is the pattern."""


def clean(path: str) -> str:
    """The shortest name for a path by its letters alone: ``.`` for an empty one."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in {"", "."}:
            continue
        if part == ".." and (rooted or (parts and parts[-1] != "..")):
            if parts:
                parts.pop()
            continue
        parts.append(part)
    cleaned = "/".join(parts)
    return f"/{cleaned}" if rooted else cleaned or "."


def has_wildcards(text: str) -> bool:
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "*?[":
            return True
    return False


def split(path: str) -> tuple[str, str]:
    """What comes before the first component that is a pattern, and the rest; "" where there is none."""
    parts = clean(path).split("/")
    for number, part in enumerate(parts):
        if has_wildcards(part):
            return "/".join(parts[:number]) or ("/" if path.startswith("/") else ""), "/".join(parts[number:])
    return "/".join(parts) or "/", ""


@functools.lru_cache(1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """For ``fullmatch``. Raises ``BadPattern``."""
    return re.compile(_Translator(pattern).run())


def matches(pattern: str, name: str) -> bool:
    return compiled(pattern).fullmatch(name) is not None


class _Translator:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def run(self) -> str:
        parts = []
        while self._at < len(self._pattern):
            character = self._next()
            if character == "*":
                parts.append("[^/]*")
            elif character == "?":
                parts.append("[^/]")
            elif character == "[":
                parts.append(self._class())
            elif character == "\\":
                parts.append(re.escape(self._next()))
            else:
                parts.append(re.escape(character))
        return "".join(parts)

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise BadPattern(self._pattern)
        self._at += 1
        return self._pattern[self._at - 1]

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _class(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._next()
        ranges: list[str] = []
        first = True
        while first or self._peek() != "]":
            first = False
            low = high = self._member()
            if self._peek() == "-":
                self._next()
                high = self._member()
            if low <= high:
                ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        self._next()
        if not ranges:
            return "(?s:.)" if negated else "(?!)"
        return f"[{'^' if negated else ''}{''.join(ranges)}]"

    def _member(self) -> str:
        character = self._next()
        if character in "-]":
            raise BadPattern(self._pattern)
        if character == "\\":
            character = self._next()
        if not self._peek():
            raise BadPattern(self._pattern)
        return character
