"""A Dockerfile's lines: directives, comments, continuations and documents, before anything in them has a meaning.

A line that ends in the escape character goes on with the next; comments in between are left out, and so are empty
lines, with a warning. The lines of a heredoc are taken as they are, by whoever finds that an instruction has one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from devenv import errors
from devenv.build.dockerfile import instructions, words
from devenv.build.dockerfile.malformed import Malformed

_BOM = "\ufeff"
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=(.*)", re.DOTALL)
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_SURROGATE = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    """One instruction's, with its continuations."""

    text: str
    first: int  # counted from 1
    last: int
    comments: tuple[str, ...]  # directly above it
    gap: int  # the number of an empty line within; 0 for none


class Source:
    """Read once, from the top. Raises ``BuildError``."""

    def __init__(self, text: str | bytes, *, file: str) -> None:
        self.file = file
        whole = _decoded(text, file)
        self._lines = whole.removesuffix("\n").split("\n")
        self._number = 0  # of lines that were read
        self.directives: dict[str, str] = {}
        self.escape = "\\"
        self._read_directives()

    def next(self) -> Line | None:
        """The next instruction's."""
        comments: list[str] = []
        while self._number < len(self._lines):
            raw = self._take()
            line = raw.lstrip(words.SPACE)
            if line.startswith("#"):
                comment = raw[1:].strip(words.SPACE)  # as BuildKit, which does not look where it stands
                if comment:
                    comments.append(comment)
                else:
                    comments.clear()
                continue
            text, ended = self._continued(line)
            if text or not ended:
                return self._whole(text, ended, comments)
        return None

    def document(self, name: str, *, tabs: bool) -> str | None:
        """What follows up to a line that is ``name``; with ``tabs`` some may stand before it. None: no such line."""
        content: list[str] = []
        while self._number < len(self._lines):
            line = self._lines[self._number]
            self._number += 1
            end = line.rstrip("\r")
            if (end.lstrip("\t") if tabs else end) == name:
                return "".join(content)
            content.append(line + "\n")
        return None

    @property
    def number(self) -> int:
        """Of the line read last."""
        return self._number

    def place(self, first: int, last: int, word: str = "") -> instructions.Place:
        """Where ``word`` is written in these lines, or where they begin."""
        for number in range(first, last + 1) if word else ():
            column = self._lines[number - 1].find(word)
            if column >= 0:
                return self._at(number, column, last)
        line = self._lines[first - 1] if first <= len(self._lines) else ""
        return self._at(first, len(line) - len(line.lstrip(words.SPACE + _BOM)), last)

    def error(self, problem: Exception, first: int, last: int) -> errors.BuildError:
        place = self.place(first, last, problem.word if isinstance(problem, Malformed) else "")
        return errors.BuildError(
            str(problem),
            file=place.file,
            line=place.line,
            column=place.column,
            excerpt=place.excerpt,
            hint=problem.hint if isinstance(problem, Malformed) else None,
        )

    def _at(self, number: int, column: int, last: int) -> instructions.Place:
        excerpt = self._lines[number - 1] if number <= len(self._lines) else ""
        if number == 1:
            excerpt, column = excerpt.removeprefix(_BOM), column - excerpt.startswith(_BOM)
        return instructions.Place(self.file, number, max(column, 0) + 1, max(last, number), excerpt.rstrip("\r"))

    def _take(self) -> str:
        """Without its end, which may have several carriage returns."""
        line = self._lines[self._number]
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(_BOM)
        return line.rstrip("\r")

    def _continued(self, line: str) -> tuple[str, bool]:
        """Without the character that continues it, and whether it ends here."""
        body = line.rstrip(" \t")
        if not body.endswith(self.escape) or body.endswith(self.escape * 2):
            return line, True
        return body[:-1], False

    def _whole(self, text: str, ended: bool, comments: list[str]) -> Line:
        first, gap = self._number, 0
        pieces = [text]
        while not ended and self._number < len(self._lines):
            line = self._take()
            stripped = line.lstrip(words.SPACE)
            if stripped.startswith("#"):
                continue
            if not stripped:
                gap = gap or self._number
                continue
            piece, ended = self._continued(line)
            pieces.append(piece)
        return Line("".join(pieces), first, self._number, tuple(comments), gap)

    def _read_directives(self) -> None:
        """They stand at the top, once each; the first line that is none ends them, if only a comment."""
        shebang = self._lines[0].removeprefix(_BOM).startswith("#!")
        self._number = int(shebang)
        while self._number < len(self._lines):
            line = self._take().lstrip(words.SPACE)
            found = _DIRECTIVE.match(line[1:].lstrip(words.SPACE)) if line.startswith("#") else None
            name = found[1].lower() if found else ""
            value = found[2].strip("\t\n\f\r ") if found else ""
            if not value or name not in _DIRECTIVES:
                self._number -= 1
                return
            if name in self.directives:
                self._fail(f"the directive `{name}` is given twice", hint="each may be given once")
            self.directives[name] = value
            if name == "escape" and not shebang:  # as BuildKit has it, which looks for the others only below `#!`
                self._set_escape(value)

    def _set_escape(self, value: str) -> None:
        if value not in {"\\", "`"}:
            self._fail(f"the escape character is `{value}`", hint="it is a backslash or a backtick")
        self.escape = value

    def _fail(self, message: str, *, hint: str) -> None:
        raise self.error(Malformed(message, hint=hint), self._number, self._number)


def _decoded(text: str | bytes, file: str) -> str:
    if isinstance(text, str):
        return _SURROGATE.sub("\ufffd", text)
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise errors.BuildError("it is written in UTF-16", file=file, line=1, column=1, hint="save it as UTF-8")
    # What is no UTF-8 is nearly always a comment of old, or a name in MAINTAINER; Go has the same sign in its place.
    return text.decode("utf-8", "replace")
