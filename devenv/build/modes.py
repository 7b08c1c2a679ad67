"""``--chmod``: a number in octal, or words as chmod(1) reads them, without a umask."""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Callable

from devenv import errors

Change = Callable[[int], int]  # from st_mode to the new bits

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXstugo]*))+)")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007}
_PERMISSIONS = {"r": 0o444, "w": 0o222, "x": 0o111}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def is_octal(text: str) -> bool:
    return text[:1].isdigit()


def octal(text: str) -> int:
    """Raises ``BuildError``."""
    if not re.fullmatch("[0-7]+", text) or int(text, 8) > 0o7777:
        raise errors.BuildError(
            f"`--chmod={text}` is no mode", hint="an octal number from 0 to 7777, or as `u=rwX,go=rX`"
        )
    return int(text, 8)


@functools.lru_cache(64)
def read(text: str) -> Change:
    """Raises ``BuildError``."""
    if is_octal(text):
        number = octal(text)
        return lambda _: number
    actions: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise errors.BuildError(
                f"`--chmod={text}` is no mode", hint="an octal number from 0 to 7777, or as `u=rwX,go=rX`"
            )
        who, rest = found.groups()
        actions += [(who, operator, what) for operator, what in _ACTION.findall(rest)]
    return functools.partial(_applied, tuple(actions))


def _applied(actions: tuple[tuple[str, str, str], ...], mode: int) -> int:
    before = new = stat.S_IMODE(mode)
    runs = bool(before & 0o111) or stat.S_ISDIR(mode)
    for who, operator, what in actions:
        classes = "ugo" if not who or "a" in who else who
        reach = functools.reduce(int.__or__, (_WHO[each] for each in classes))
        sticky = not who or "a" in who or "u" in who or "g" in who
        bits = _bits(new, what, reach, runs=runs, sticky=sticky)
        if operator == "=":
            new = new & ~reach | bits
        elif operator == "+":
            new |= bits
        else:
            new &= ~bits
    return new


def _bits(mode: int, what: str, reach: int, *, runs: bool, sticky: bool) -> int:
    bits = 0
    for letter in what:
        if letter in _PERMISSIONS:
            bits |= _PERMISSIONS[letter] & reach
        elif letter == "X":
            bits |= 0o111 & reach if runs else 0
        elif letter == "s":
            bits |= 0o6000 & reach
        elif letter == "t":
            bits |= 0o1000 if sticky else 0
        else:
            bits |= (mode >> _SHIFT[letter] & 7) * 0o111 & reach
    return bits
