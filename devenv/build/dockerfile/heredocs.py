"""``<<EOF`` in a line of RUN, COPY or ADD: which words are heredocs, and what their delimiters say."""

from __future__ import annotations

import re
from typing import NamedTuple

from devenv.build.dockerfile import words

_WORD = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)\Z")
_TABS = re.compile(r"^\t+", re.MULTILINE)


class Delimiter(NamedTuple):
    name: str
    expand: bool
    tabs: bool  # `<<-`: leading tabs are stripped
    descriptor: int


def delimiters(line: str) -> list[Delimiter]:
    """In a whole line, whose quotes keep words together. Raises ``WordError``."""
    try:
        found = words.process(line, {}, raw_quotes=True, raw_escapes=True, keep_unset=True, forgetful=True).words
    except words.WordError:
        return []
    return [each for each in map(_delimiter, found) if each is not None]


def delimiter(word: str) -> Delimiter | None:
    """Of a word that may be none."""
    try:
        return _delimiter(word)
    except words.WordError:
        return None


def _delimiter(word: str) -> Delimiter | None:
    if "<<" not in word or not (match := _WORD.match(word)) or not match[3]:
        return None
    plain = words.process(match[3], {}, keep_unset=True).words
    if len(plain) != 1:
        return None
    # A quote that the first reading has taken away: some part of the word is quoted.
    raw = words.process(match[3], {}, raw_quotes=True, keep_unset=True).words
    return Delimiter(
        name=plain[0],
        expand=bool(raw) and _quotes(plain[0]) == _quotes(raw[0]),
        tabs=match[2] == "-",
        descriptor=int(match[1]) if 0 < len(match[1]) < 10 else 0,
    )


def without_tabs(content: str) -> str:
    return _TABS.sub("", content)


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
