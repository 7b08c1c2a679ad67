"""What is wrong and where, said so that it can be mended.

Phases know a *path* (``services``, ``web``, ``ports``, ``0``), not a place: they hand `Problem`s to a `Report`, which
finds the place by reading the file once more. That keeps line numbers free of charge for a spec that is right.
Problems that belong to one phase are raised together, sorted by place: the first as the error, the rest in its note.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from devenv import errors

Path = tuple[str | int, ...]

MOST_SHOWN = 10  # further problems in one error
LONGEST = 400  # characters of a message: a value may be pages long


class Problem(NamedTuple):
    path: Path
    message: str
    hint: str | None = None
    value: object = None  # the offending scalar, which tells list items apart after a merge


class Place(NamedTuple):
    file: str
    line: int
    column: int
    excerpt: str
    depth: int  # how many segments of the path were found


class Locator(Protocol):
    def locate(self, path: Path, value: object = None) -> Place | None: ...


class Report:
    """The files read so far, and the problems found in them."""

    def __init__(self) -> None:
        self.sources: list[Locator] = []
        self.warnings: list[str] = []
        self.problems: list[Problem] = []

    def add(self, path: Path, message: str, *, hint: str | None = None, value: object = None) -> None:
        self.problems.append(Problem(path, message, hint, value))

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def raise_any(self) -> None:
        if self.problems:
            found, self.problems = self.problems, []
            raise self.error(found)

    def fail(self, path: Path, message: str, *, hint: str | None = None, value: object = None) -> errors.SpecError:
        """The error of this one problem."""
        return self.error([Problem(path, message, hint, value)])

    def error(self, problems: Sequence[Problem]) -> errors.SpecError:
        placed = [(self.place(problem.path, problem.value), problem) for problem in problems]
        placed.sort(key=lambda item: (item[0] or Place("", 0, 0, "", 0))[:3])
        made: list[errors.SpecError] = []
        for place, problem in placed:
            message = problem.message
            if len(message) > LONGEST:
                message = f"{message[: LONGEST - 60]} … {message[-50:]}"
            error = errors.SpecError(message, hint=problem.hint)
            if place is not None:
                error.file, error.line, error.column, error.excerpt = place[:4]
            if not any(str(other) == str(error) and other.line == error.line for other in made):
                made.append(error)
        first, rest = made[0], made[1:]
        if rest:
            lines = [_brief(other) for other in rest[:MOST_SHOWN]]
            if len(rest) > MOST_SHOWN:
                lines.append(f"… and {len(rest) - MOST_SHOWN} more")
            first.note = f"{len(rest)} more like this:\n" + "\n".join(f"  {line}" for line in lines)
        return first

    def place(self, path: Path, value: object = None) -> Place | None:
        """Where the path is written, or the nearest thing above it: of several files the last that says most."""
        best: Place | None = None
        for source in self.sources:
            place = source.locate(path, value)
            if place is not None and (best is None or place.depth >= best.depth):
                best = place
        return best


def _brief(error: errors.SpecError) -> str:
    where = f"{error.file}:{error.line}:{error.column}: " if error.file else ""
    what = f"{where}{error.message}"
    return f"{what} ({error.hint})" if error.hint else what


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    candidates = [name for name in known if isinstance(name, str)]
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f"did you mean `{matches[0]}`?" if matches else None


def dotted(path: Path) -> str:
    """``services.web.ports[0]``, as people write it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
