"""``--name=value`` between an instruction's word and the rest of its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto

from devenv.build.dockerfile import instructions, words
from devenv.build.dockerfile.malformed import Malformed, did_you_mean


class Kind(Enum):
    TEXT = auto()
    BOOLEAN = auto()
    MANY = auto()  # may be repeated


def split(text: str, escape: str) -> tuple[list[str], str]:
    """The flags, their quotes and escapes resolved, and what follows them."""
    found: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position] in words.SPACE:
            position += 1
        if not text.startswith("--", position):
            return found, text[position:]
        flag, quoted, position = _word(text, position, escape)
        if flag == "--":
            return found, text[position:]
        if flag or quoted:
            found.append(flag)


def _word(text: str, position: int, escape: str) -> tuple[str, bool, int]:
    """It, whether there were quotes, and the place of the space that ends it."""
    result: list[str] = []
    quote, quoted = "", False
    while position < len(text):
        character = text[position]
        if not quote and character in words.SPACE:
            break
        if quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote, quoted = character, True
        elif character == escape:
            position += 1
            result.append(text[position : position + 1])
        else:
            result.append(character)
        position += 1
    return "".join(result), quoted, position


class Flags:
    """What was given, checked against ``allowed``. Raises ``Malformed``."""

    def __init__(self, given: Sequence[str], allowed: Mapping[str, Kind]) -> None:
        self._values: dict[str, list[str]] = {}
        for flag in given:
            name, equals, value = flag.removeprefix("--").partition("=")
            kind = allowed.get(name)
            if kind is None:
                hint = did_you_mean(name, allowed)
                raise Malformed(f"unknown flag `--{name}`", word=f"--{name}", hint=hint and hint.replace("`", "`--", 1))
            if name in self._values and kind is not Kind.MANY:
                raise Malformed(f"the flag `--{name}` is given twice", word=f"--{name}")
            if (kind is Kind.BOOLEAN and equals and not value) or (kind is not Kind.BOOLEAN and not equals):
                raise Malformed(f"the flag `--{name}` needs a value", word=f"--{name}")
            if kind is Kind.BOOLEAN and value.lower() not in {"", "true", "false"}:
                raise Malformed(f"the flag `--{name}` is true or false, not `{value}`", word=f"--{name}")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        return self._values.get(name, [""])[0]

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def boolean(self, name: str) -> bool | None:
        """None: not given."""
        return self._values[name][0].lower() != "false" if name in self._values else None


def as_written(given: Sequence[str]) -> tuple[instructions.Flag, ...]:
    parts = (flag.removeprefix("--").partition("=") for flag in given)
    return tuple(instructions.Flag(name, value, bool(equals)) for name, equals, value in parts)
