"""What is wrong with an instruction, before anybody knows where: whoever has the lines makes a ``BuildError`` of it."""

from __future__ import annotations

from collections.abc import Iterable


class Malformed(ValueError):
    """``word`` is the offending piece as written, to be looked for in the instruction's lines."""

    def __init__(self, message: str, *, word: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.word = word
        self.hint = hint


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    import difflib  # costs a millisecond that a right file need not pay

    candidates = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower()[:100], candidates, n=1, cutoff=0.6)
    return f"did you mean `{candidates[found[0]]}`?" if found else None
