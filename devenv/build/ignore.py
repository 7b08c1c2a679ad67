"""What a build leaves out of a folder: ``.dockerignore``, ``Dockerfile.dockerignore`` and ``--exclude``.

The rules are moby/patternmatcher's. A pattern matches whole paths, ``**`` any number of folders, ``!`` takes back, and
the last that matches decides; what matches a folder matches all beneath it. Patterns of a kind that follow each other
are one regular expression, and what is found for a folder is handed down to what is in it, so a path costs one match
for every change between ``!`` and none, however many patterns there are.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.build import globs

State = tuple[bool, ...]  # of a folder: which groups of patterns match it or what it is in

_BOM = b"\xef\xbb\xbf"


class Pattern(NamedTuple):
    text: str  # cleaned, without the `!`
    exception: bool
    line: int  # 0 where it isn't from a file
    file: str
    expression: re.Pattern[str]


class _Group(NamedTuple):
    exception: bool
    expression: re.Pattern[str]


class Matcher:
    """``root`` is the state of the folder that the patterns are relative to."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self._groups = _grouped(self.patterns)
        self._exceptions = tuple(each.text.split("/") for each in self.patterns if each.exception)
        self.root: State = (False,) * len(self._groups)

    @property
    def has_exceptions(self) -> bool:
        return bool(self._exceptions)

    def step(self, path: str, above: State) -> tuple[bool, State]:
        """Whether ``path`` matches, and the state for what is in it; ``above``: of the folder that it is in."""
        matched = False
        state = []
        for (exception, expression), known in zip(self._groups, above, strict=True):
            match = known or (exception == matched and expression.fullmatch(path) is not None)
            if match:
                matched = not exception
            state.append(match)
        return matched, tuple(state)

    def matches(self, path: str) -> bool:
        """By its name or by that of a folder that it is in."""
        matched, state = False, self.root
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            matched, state = self.step("/".join(parts[:length]), state)
        return matched

    def may_except(self, folder: str) -> bool:
        """Whether a `!` might take back something in a folder that matches."""
        return any(_reaches(each, folder) for each in self._exceptions)

    def culprit(self, path: str) -> Pattern | None:
        """The pattern that decides that ``path`` matches."""
        found: Pattern | None = None
        parts = path.split("/")
        names = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        for pattern in self.patterns:
            if pattern.exception == (found is not None) and any(map(pattern.expression.fullmatch, names)):
                found = None if pattern.exception else pattern
        return found


class Left:
    """What is left out, and which folders whole, as whoever watches files asks."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def match(self, path: str) -> bool:
        return self._matcher.matches(path)

    def prune(self, folder: str) -> bool:
        return self._matcher.matches(folder) and not self._matcher.may_except(folder)


class Inclusion(Matcher):
    """Patterns of what is wanted: ``--parents``."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        super().__init__(patterns)
        self._wanted = tuple(each.text.split("/") for each in patterns)

    def may_match(self, folder: str) -> bool:
        """Something in a folder that doesn't match itself."""
        return any(_reaches(each, folder) for each in self._wanted)


def read(data: bytes, *, file: str) -> Matcher:
    """An ignore file. Raises ``BuildError`` with the line."""
    patterns = []
    for number, raw in enumerate(data.removeprefix(_BOM).split(b"\n"), 1):
        line = os.fsdecode(raw.removesuffix(b"\r"))
        if line.startswith("#") or not (text := line.strip(globs.SPACE)):
            continue
        exception = text.startswith("!")
        text = text[1:].strip(globs.SPACE) if exception else text
        if text:
            text = globs.clean(text)
            text = text.removeprefix("/") if len(text) > 1 else text
        patterns.append(_pattern(text, exception=exception, file=file, line=number, written=line))
    return Matcher(patterns)


def of(texts: Iterable[str], *, what: str) -> list[Pattern]:
    """Patterns that are given one by one, as with ``--exclude``; ``what`` names them in messages."""
    patterns = []
    for text in texts:
        trimmed = text.strip(globs.SPACE)
        if trimmed:
            cleaned = globs.clean(trimmed)
            exception = cleaned.startswith("!")
            patterns.append(_pattern(cleaned[exception:], exception=exception, file=what, line=0, written=text))
    return patterns


def load(context: str, dockerfile: str) -> Matcher | None:
    """The ignore file for a Dockerfile (a path, or "") and a context's folder: the Dockerfile's own one first."""
    for path in _paths(context, dockerfile):
        try:
            with open(path, "rb") as file:
                return read(file.read(), file=path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise errors.BuildError(f"`{path}` can't be read: {exc.strerror}") from exc
    return None


def path(context: str, dockerfile: str) -> str:
    """Of the file that ``load`` reads, or would if it were there."""
    every = _paths(context, dockerfile)
    return next((each for each in every if os.path.lexists(each)), every[-1])


def _paths(context: str, dockerfile: str) -> list[str]:
    return ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [f"{context}/.dockerignore"]


def _pattern(text: str, *, exception: bool, file: str, line: int, written: str) -> Pattern:
    place = {"file": file, "line": line, "excerpt": written} if line else {}
    where = "" if line else f"{file}: "
    if not text:
        raise errors.BuildError(f"{where}`!` takes back nothing", hint="write what it takes back behind it", **place)  # type: ignore[arg-type]
    # patternmatcher cleans a second time, which matters behind `!`.
    text = text if exception else globs.clean(text)
    try:
        globs.compiled(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # `[[` and `--` in a class, which mean themselves
            expression = re.compile(_expression(text), re.ASCII)
    except (globs.BadPattern, re.error) as exc:
        raise errors.BuildError(f"{where}`{text}` is no pattern", hint="a `[` needs its `]`", **place) from exc  # type: ignore[arg-type]
    return Pattern(text, exception, line, file, expression)


def _grouped(patterns: Iterable[Pattern]) -> tuple[_Group, ...]:
    groups: list[tuple[bool, list[str]]] = []
    for each in patterns:
        if not groups or groups[-1][0] != each.exception:
            groups.append((each.exception, []))
        groups[-1][1].append(f"(?:{each.expression.pattern})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return tuple(_Group(exception, re.compile("|".join(texts), re.ASCII)) for exception, texts in groups)


def _expression(pattern: str) -> str:
    """What patternmatcher makes of a pattern, its special cases for names, beginnings and ends included."""
    parts: list[str] = []
    at, kind = 0, "exact"
    while at < len(pattern):
        first, character = at == 0, pattern[at]
        at += 1
        if pattern.startswith("*", at) and character == "*":
            at += 1
            at += pattern.startswith("/", at)
            if at == len(pattern):
                if kind == "exact":
                    kind = "prefix"
                else:
                    parts.append(".*")
                    kind = "expression"
            else:
                parts.append("(?:.*/)?")
                kind = "expression"
            if first:
                kind = "suffix"
        elif character == "*":
            parts.append("[^/]*")
            kind = "expression"
        elif character == "?":
            parts.append("[^/]")
            kind = "expression"
        elif character == "\\" and at < len(pattern):
            parts.append("\\" + pattern[at])
            at += 1
            kind = "expression"
        elif character in "[]":
            parts.append(character)
            kind = "expression"
        else:
            parts.append(re.escape(character) if character in ".+()|{}$\\" else character)
    return _KINDS[kind](pattern, "".join(parts))


def _suffix(pattern: str, _: str) -> str:
    rest = pattern[2:]
    return f"(?:(?s:.*)/)?{re.escape(rest[1:])}" if rest.startswith("/") else f"(?s:.*){re.escape(rest)}"


_KINDS: dict[str, Callable[[str, str], str]] = {
    "exact": lambda pattern, _: re.escape(pattern),
    "prefix": lambda pattern, _: re.escape(pattern[:-2]) + "(?s:.*)",
    "suffix": _suffix,
    "expression": lambda _, expression: expression,
}


def _reaches(pattern: list[str], folder: str) -> bool:
    """Whether a pattern, by its components, can match something in a folder."""
    parts = folder.split("/")
    for wanted, part in zip(pattern, parts, strict=False):
        if "**" in wanted or "[" in wanted:  # a class may match a slash
            return True
        if not globs.matches(wanted, part):
            return False
    return len(pattern) > len(parts)
