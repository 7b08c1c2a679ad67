"""The frontend's shell words: quotes, escapes and variables, as BuildKit reads them (which is not quite a shell's way).

    'raw'  "with $v and \\" escapes"  \\c      the escape character is the file's
    $v ${v}   ${v:-w} ${v-w}   ${v:+w} ${v+w}   ${v:?w} ${v?w}
    ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/w} ${v//p/w}     patterns of * and ?, no brackets

A word may hold variables itself. A variable that is not set is empty, or stays as written with ``keep_unset``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# Go's unicode.IsSpace, which str.isspace is not quite.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
DEEPEST = 100  # ${a:-${b:-…}}
_SPECIAL = "@*#?-$!0"
# What nothing is done to. A word that is only this needs no closer look, and nearly all are.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@=+,-]*")


class WordError(ValueError):
    """A word that can't be expanded; its caller knows the place."""


class Expansion(NamedTuple):
    text: str
    words: tuple[str, ...]
    used: frozenset[str]  # variables that were looked up and are set
    undefined: frozenset[str]


def expand(text: str, env: Mapping[str, str], *, escape: str = "\\") -> str:
    """One word, whatever spaces the variables hold. Raises ``WordError``, as all here."""
    return text if _PLAIN.fullmatch(text) else process(text, env, escape=escape).text


def expand_words(text: str, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Split at spaces after the expansion, as EXPOSE is."""
    return list(process(text, env, escape=escape).words)


def expand_document(text: str, env: Mapping[str, str]) -> str:
    """The content of a heredoc: quotes are text, and the escape is always the backslash."""
    return process(text, env, quotes=False).text


def process(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    quotes: bool = True,
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    keep_unset: bool = False,
    forgetful: bool = False,
) -> Expansion:
    """``raw_…`` leaves quotes and escapes in the result, though they work; without ``quotes`` they are mere text.

    With ``forgetful`` a word loses what stands before a ``${v:-w}`` in it. So does BuildKit, everywhere; what it takes
    for a heredoc hangs on it: nothing in ``$((1 << ${v:-2}))`` is one.
    """
    reader = _Reader(
        text,
        env,
        escape=escape,
        quotes=quotes,
        raw_quotes=raw_quotes,
        raw_escapes=raw_escapes,
        keep_unset=keep_unset,
    )
    words = reader.words = _Words(forgetful=forgetful)
    whole = reader.until("", words)
    return Expansion(whole, tuple(words.finish()), frozenset(reader.used), frozenset(reader.undefined))


class _Words:
    """The same text in words: a space ends one, unless it was quoted or escaped; an empty one is none."""

    def __init__(self, *, forgetful: bool) -> None:
        self._found: list[str] = []
        self._word = ""
        self._forgetful = forgetful

    def forget(self) -> None:
        if self._forgetful:
            self._word = ""

    def add(self, text: str) -> None:
        for character in text:
            if character not in SPACE:
                self._word += character
            elif self._word:
                self._found.append(self._word)
                self._word = ""

    def add_raw(self, text: str) -> None:
        self._word += text

    def finish(self) -> list[str]:
        if self._word:
            self._found.append(self._word)
            self._word = ""
        return self._found


class _Reader:
    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        *,
        escape: str,
        quotes: bool,
        raw_quotes: bool,
        raw_escapes: bool,
        keep_unset: bool,
    ) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._env = env
        self._escape = escape
        self._quotes = quotes
        self._raw_quotes = raw_quotes
        self._raw_escapes = raw_escapes
        self._keep_unset = keep_unset
        self.words = _Words(forgetful=False)
        self.used: set[str] = set()
        self.undefined: set[str] = set()

    def until(self, stop: str, words: _Words | None = None, *, raw_escapes: bool | None = None) -> str:
        """Up to ``stop``, or to the end where it is empty."""
        before = self._raw_escapes
        if raw_escapes is not None:
            self._raw_escapes = raw_escapes
        self._depth += 1
        if self._depth > DEEPEST:
            raise WordError("variables are nested too deeply")
        if words is None:
            words = _Words(forgetful=False)
            self.words.forget()
        result: list[str] = []
        while self._at < len(self._text):
            if stop and self._peek() == stop:
                self._at += 1
                self._raw_escapes = before
                self._depth -= 1
                return "".join(result)
            result.append(self._piece(words))
        if stop:
            raise WordError(f"syntax error: missing `{stop}` in a variable")
        return "".join(result)

    def _piece(self, words: _Words) -> str:
        character = self._peek()
        if character == "$":
            piece = self._dollar()
            words.add(piece)
            return piece
        if character == "<":
            piece = self._redirection()
        elif character == "'" and self._quotes:
            piece = self._single()
        elif character == '"' and self._quotes:
            piece = self._double()
        elif character == self._escape:
            piece = self._escaped()
        else:
            self._at += 1
            words.add(character)
            return character
        words.add_raw(piece)
        return piece

    def _escaped(self) -> str:
        escaped = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        return self._escape + escaped if self._raw_escapes else escaped

    def _redirection(self) -> str:
        """``<<`` takes the spaces behind it along, so that a heredoc's name stays with it."""
        match = re.compile(r"<<[\t\r ]*|<").match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return match[0]

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise WordError("the single quote is not closed")
        quoted = self._text[self._at + 1 : end]
        self._at = end + 1
        return f"'{quoted}'" if self._raw_quotes else quoted

    def _double(self) -> str:
        self._at += 1
        result = ['"'] if self._raw_quotes else []
        while self._at < len(self._text):
            character = self._peek()
            if character == '"':
                self._at += 1
                return "".join([*result, '"'] if self._raw_quotes else result)
            result.append(self._dollar() if character == "$" else self._within_double(character))
        raise WordError("the double quote is not closed")

    def _within_double(self, character: str) -> str:
        self._at += 1
        if character != self._escape:
            return character
        kept = character if self._raw_escapes else ""
        following = self._peek()
        if not following:
            return kept
        if following in {'"', "$", self._escape}:
            self._at += 1
            return kept + following
        return kept + character

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._look_up(name)
            return f"${name}" if value is None and self._keep_unset else value or ""
        self._at += 1
        if not self._peek():
            raise WordError("syntax error: missing `}` in a variable")
        if self._peek() in "{}:":
            raise WordError("syntax error: `${` has to be followed by a variable's name")
        return self._braced(self._name())

    def _braced(self, name: str) -> str:
        operator = self._peek()
        self._at += 1
        if operator == "}":
            value = self._look_up(name)
            return f"${{{name}}}" if value is None and self._keep_unset else value or ""
        if operator == "/":
            return self._replaced(name)
        colon = operator == ":"
        if colon:
            operator = self._peek()
            self._at += 1
        if not operator:
            raise WordError("syntax error: missing `}` in a variable")
        sign = ":" + operator if colon else operator
        if operator not in ("-+?" if colon else "-+?#%"):
            raise WordError(f"`{sign}` in `${{{name}{sign}…}}` is no substitution there is")
        word = self.until("}", raw_escapes=operator in "#%")
        value = self._look_up(name)
        if value is None and self._keep_unset:
            return f"${{{name}{sign}{word}}}"
        if operator in "#%":
            return _trimmed(value or "", word, operator)
        missing = value is None or (colon and not value)
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if missing:
            reason = "is not allowed to be unset" if value is None else "is not allowed to be empty"
            raise WordError(f"{name}: {word or reason}")
        return value or ""

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        self._at += everywhere
        pattern = self.until("/", raw_escapes=True)
        replacement = self.until("}", raw_escapes=True)
        value = self._look_up(name)
        if value is None:
            return f"${{{name}/{pattern}/{replacement}}}" if self._keep_unset else ""
        expression = _expression(pattern, greedy=True)
        result, end = "", 0
        for found in _matches(expression, value):
            result += value[end : found.start()] + replacement
            end = found.end()
            if not everywhere:
                break
        return result + value[end:]

    def _name(self) -> str:
        start = self._at
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        elif first and first in _SPECIAL:
            self._at += 1
        else:
            while (character := self._peek()).isalpha() or character.isdecimal() or character == "_":
                self._at += 1
        return self._text[start : self._at]

    def _look_up(self, name: str) -> str | None:
        value = self._env.get(name)
        (self.undefined if value is None else self.used).add(name)
        return value


def _matches(expression: re.Pattern[str], value: str) -> Iterator[re.Match[str]]:
    """As Go finds them: an empty one right behind another is none."""
    end = -1
    for found in expression.finditer(value):
        if found.end() > found.start() or found.start() != end:
            yield found
        end = found.end()


def _trimmed(value: str, word: str, sign: str) -> str:
    greedy = word.startswith(sign)
    pattern = word[1:] if greedy else word
    if sign == "#":
        found = _expression(pattern, greedy=greedy).match(value)
        return value[found.end() :] if found else value
    # The shortest at the end is the shortest at the start of the reverse.
    found = _expression(_reversed(pattern), greedy=greedy).match(value[::-1])
    return value[: len(value) - found.end()] if found else value


def _reversed(pattern: str) -> str:
    return "".join(reversed(re.findall(r"\\.|.", pattern, re.DOTALL)))


def _expression(pattern: str, *, greedy: bool) -> re.Pattern[str]:
    """Where a piece between stars is found first is always good enough, but for the last one with ``greedy``: without
    going back, no pattern takes long, as none does in Go.
    """
    pieces = [""]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        elif character == "\\":
            following = pattern[position : position + 1]
            if not following or following not in "}/*?\\":
                raise WordError(f"`\\{following}` in the pattern `{pattern}` escapes nothing")
            position += 1
            pieces[-1] += re.escape(following)
        else:
            pieces[-1] += re.escape(character)
    first, *between = pieces
    last = between.pop() if between else None
    middle = "".join(f"(?>.*?{piece})" for piece in between if piece)
    return re.compile(first + middle + ("" if last is None else f"{'.*' if greedy else '.*?'}{last}"))
