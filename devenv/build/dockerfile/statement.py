"""One instruction taken apart as far as all are alike: its keyword, flags, arguments and documents."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from devenv.build.dockerfile import flags, forms, heredocs, instructions, words
from devenv.build.dockerfile.malformed import Malformed

_WITH_DOCUMENTS = frozenset({"run", "copy", "add"})
_TRIGGERED = re.compile(r"[\t\n\f\r ]*onbuild[\t\n\f\r ]*", re.IGNORECASE)


class Document:
    """A heredoc with its lines as they are in the file."""

    __slots__ = ("content", "delimiter")

    def __init__(self, delimiter: heredocs.Delimiter, content: str) -> None:
        self.delimiter = delimiter
        self.content = content

    @property
    def heredoc(self) -> instructions.Heredoc:
        content = heredocs.without_tabs(self.content) if self.delimiter.tabs else self.content
        return instructions.Heredoc(self.delimiter.name, content, self.delimiter.expand, self.delimiter.descriptor)


@dataclasses.dataclass(slots=True, kw_only=True)
class Statement:
    place: instructions.Place
    line: str
    escape: str
    comments: tuple[str, ...]
    keyword: str  # as written
    given: list[str]  # flags, their quotes resolved
    rest: str
    documents: list[Document] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return self.keyword.upper()

    @property
    def common(self) -> dict[str, Any]:
        """What every instruction has."""
        return {
            "place": self.place,
            "text": self.line.strip(words.SPACE),
            "flags": flags.as_written(self.given),
            "comments": self.comments,
        }

    def allow(self, **allowed: flags.Kind) -> flags.Flags:
        """``keep_git_dir`` is the flag ``--keep-git-dir``."""
        return flags.Flags(self.given, {name.replace("_", "-"): kind for name, kind in allowed.items()})

    def one(self, what: str) -> str:
        if not self.rest:
            raise Malformed(f"{self.name} needs {what}")
        return self.rest

    def trigger(self) -> Statement:
        """What follows ONBUILD; the documents are its own."""
        line = _TRIGGERED.sub("", self.line, count=1)
        return dataclasses.replace(_split(self.rest, self), line=line, documents=self.documents)

    @property
    def expression(self) -> str:
        """The whole text from which it can be read again."""
        documents = (f"{each.content}{each.delimiter.name}" for each in self.documents)
        return "\n".join([self.line, *documents])

    def delimiters(self) -> list[heredocs.Delimiter]:
        """Of the documents that have to follow the line."""
        if "<<" not in self.line:
            return []
        inner = _split(self.rest, self) if self.name == "ONBUILD" and self.rest else self
        if inner.keyword.lower() not in _WITH_DOCUMENTS or forms.array(inner.rest) is not None:
            return []
        return heredocs.delimiters(self.line)


def split(line: str, place: instructions.Place, *, escape: str, comments: tuple[str, ...]) -> Statement:
    whole = Statement(place=place, line=line, escape=escape, comments=comments, keyword="", given=[], rest="")
    return _split(line, whole)


def _split(line: str, whole: Statement) -> Statement:
    keyword, *rest = forms.BLANKS.split(line.strip(words.SPACE), maxsplit=1)
    given, arguments = flags.split(rest[0], whole.escape) if rest else ([], "")
    return dataclasses.replace(whole, keyword=keyword, given=given, rest=arguments.strip(words.SPACE))
