"""``WWW-Authenticate``: what a registry wants to be shown (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"({_TOKEN})(?:\s+|$)")
_PARAMETER = re.compile(rf'({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_LIMIT = 16 << 10


class Challenge(NamedTuple):
    scheme: str  # lower case
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Several headers, or several challenges in one. What can't be understood is left out."""
    return [found for header in headers for found in _parse(header[:_LIMIT])]


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(text):
        if text[position] in " \t,":
            position += 1
        elif found and (match := _PARAMETER.match(text, position)):
            quoted = match[2]
            value = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(match[1].lower(), value)
            position = match.end()
        elif match := _SCHEME.match(text, position):
            parameters = {}
            found.append(Challenge(match[1].lower(), parameters))
            position = match.end()
        else:
            break
    return found
