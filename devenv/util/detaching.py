"""The keys that leave a container's terminal and let it run on, in docker's words: ``ctrl-p,ctrl-q``."""

from __future__ import annotations

from devenv import errors

DEFAULT = "ctrl-p,ctrl-q"

_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-@ is 0, ctrl-_ is 31
_DELETE = 127


def parse(text: str) -> bytes:
    """The bytes that a terminal sends for these keys. Raises ``UsageError``."""
    return bytes(_code(key, text) for key in text.split(","))


def _code(key: str, text: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    if key == "DEL":
        return _DELETE
    letter = key.removeprefix("ctrl-").lower()
    if key.startswith("ctrl-") and len(letter) == 1 and letter in _CONTROL:
        return _CONTROL.index(letter)
    raise errors.UsageError(
        f"`--detach-keys {text}` has a key that is not understood: `{key}`",
        hint="write single characters and `ctrl-` with a letter or one of @ [ \\ ] ^ _, joined by commas",
    )


class Keys:
    """Looks for the keys in what is typed. What may be their beginning is held back until the next key decides."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = b""

    def take(self, data: bytes) -> tuple[bytes, bool]:
        """What is the container's, and whether the keys were typed then; what comes after them is nobody's."""
        passed = bytearray()
        for number in data:
            self._held += bytes((number,))
            if self._held == self._sequence:
                self._held = b""
                return bytes(passed), True
            while not self._sequence.startswith(self._held):
                passed += self._held[:1]
                self._held = self._held[1:]
        return bytes(passed), False
