"""The grammar of ``.env``, ``--env-file``, ``env_file:`` and ``label_file:``.

``KEY=value`` or ``KEY: value``, with ``export`` in front if one likes; ``KEY`` alone takes the value the surroundings
have. Unquoted values end at `` #``; double quotes know escapes and variables and may span lines; single quotes are
literal. A value may use variables of the surroundings and of the lines above it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping

from devenv import errors
from devenv.spec import interpolate, source

Lookup = Callable[[str], "str | None"]

_EXPORT = re.compile(r"export[ \t]+")
_KEY = re.compile(r"[^=:\n]*")
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0[0-9]{0,3})')
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}
_BLANK = " \t\v\f\r\x85\xa0"


def read_file(
    path: str, variables: MutableMapping[str, str], lookup: Lookup, *, shown: str | None = None, raw: bool = False
) -> None:
    """Add a file's variables to ``variables``, which the file's own values may use. Raises ``SpecError``."""
    shown = shown or path
    text = source.read(path, shown=shown, what="env file")
    if raw:
        parse_raw(text, variables, lookup, shown=shown)
    else:
        parse(text, variables, lookup, shown=shown)


def parse(text: str, variables: MutableMapping[str, str], lookup: Lookup, *, shown: str = ".env") -> None:
    _Parser(text, variables, lookup, shown).parse()


def parse_raw(text: str, variables: MutableMapping[str, str], lookup: Lookup, *, shown: str = ".env") -> None:
    """``format: raw``: what stands after the first ``=``, to the letter."""
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.rstrip("\r").lstrip()
        if not entry or entry.startswith("#"):
            continue
        key, equals, value = entry.partition("=")
        if not key or any(character.isspace() for character in key):
            raise _error(shown, text, number, 0, f"`{key}` is no name of a variable")
        if equals:
            variables[key] = value
        elif (inherited := lookup(key)) is not None:
            variables[key] = inherited


class _Parser:
    def __init__(self, text: str, variables: MutableMapping[str, str], lookup: Lookup, shown: str) -> None:
        self.text = text
        self.variables = variables
        self.lookup = lookup
        self.shown = shown
        self.position = 0

    def parse(self) -> None:
        while self._next_statement():
            key, inherited = self._key()
            if inherited:
                value = self.lookup(key)
                if value is not None:
                    self.variables[key] = value
            else:
                self.variables[key] = self._value()

    def _next_statement(self) -> bool:
        text = self.text
        while self.position < len(text):
            if text[self.position].isspace():
                self.position += 1
            elif text[self.position] == "#":
                end = text.find("\n", self.position)
                self.position = len(text) if end < 0 else end
            else:
                return True
        return False

    def _key(self) -> tuple[str, bool]:
        export = _EXPORT.match(self.text, self.position)
        if export:
            self.position = export.end()
        start = self.position
        match = _KEY.match(self.text, start)
        key = match[0] if match else ""
        self.position = start + len(key)
        for offset, character in enumerate(key):
            if character not in _BLANK and not (character.isalnum() or character in "_.-[]"):
                raise self._error(start + offset, f"`{character}` can't be in the name of a variable")
        key = key.rstrip()
        if not key:
            raise self._error(start, "a value without a name")
        if " " in key:
            raise self._error(start, f"the name `{key}` holds a space")
        separator = self.text[self.position : self.position + 1]
        self.position += 1
        if separator in {"", "\n"}:
            return key, True
        while self.text[self.position : self.position + 1] in set(_BLANK):
            self.position += 1
        return key, False

    def _value(self) -> str:
        quote = self.text[self.position : self.position + 1]
        if quote not in {"'", '"'}:
            return self._unquoted()
        start = self.position
        index = start + 1
        found: list[str] = []
        while index < len(self.text):
            character = self.text[index]
            if character == "\\" and index + 1 < len(self.text):
                following = self.text[index + 1]
                found.append(following if following == quote else "\\" + following)
                index += 2
                continue
            if character == quote:
                self.position = index + 1
                value = "".join(found)
                return self._expand(_ESCAPE.sub(_unescape, value), start) if quote == '"' else value
            found.append(character)
            index += 1
        raise self._error(start, "a quote that is not closed")

    def _unquoted(self) -> str:
        start = self.position
        end = self.text.find("\n", start)
        end = len(self.text) if end < 0 else end
        self.position = end + 1
        return self._expand(self.text[start:end].partition(" #")[0].rstrip(), start)

    def _expand(self, value: str, at: int) -> str:
        def find(name: str) -> str | None:
            outer = self.lookup(name)
            return self.variables.get(name) if outer is None else outer

        try:
            return interpolate.substitute(value, find)
        except ValueError as problem:
            raise self._error(at, str(problem)) from None

    def _error(self, position: int, message: str) -> errors.SpecError:
        line = self.text.count("\n", 0, position) + 1
        return _error(self.shown, self.text, line, position - (self.text.rfind("\n", 0, position) + 1), message)


def _error(shown: str, text: str, line: int, column: int, message: str) -> errors.SpecError:
    excerpt = text.split("\n")[line - 1].rstrip("\r")[:200]
    return errors.SpecError(message, file=shown, line=line, column=column + 1, excerpt=excerpt)


def _unescape(match: re.Match[str]) -> str:
    text = match[0][1:]
    if text == "$":
        return "$$"
    if text.startswith("0"):
        # Go wants exactly three octal digits after the leading zero; anything else stays as it is written.
        return chr(int(text[1:], 8)) if re.fullmatch("0[0-3][0-7][0-7]", text) else match[0]
    return _ESCAPES.get(text, match[0])
