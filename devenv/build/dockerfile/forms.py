"""How an instruction's arguments may be written: words, names with values, a JSON array. Raises ``Malformed``."""

from __future__ import annotations

import json
import re

from devenv.build.dockerfile import instructions, words
from devenv.build.dockerfile.malformed import Malformed

BLANKS = re.compile(r"[\t\v\f\r ]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def separated(rest: str) -> list[str]:
    """By blanks alone: quotes mean nothing."""
    return BLANKS.split(rest) if rest else []


def array(rest: str) -> list[str] | None:
    """None for what is no JSON array, which is then read as a shell's line, however much it looks like one."""
    rest = rest.lstrip(words.SPACE)
    if not rest.startswith("["):
        return None
    try:
        found = json.loads(rest, parse_int=float, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(each, str) for each in found):
        raise Malformed("a JSON array here holds strings only", word="[")
    return [_LONE_SURROGATE.sub("\ufffd", each) for each in found]


def _refuse(constant: str) -> float:
    raise ValueError(constant)  # NaN and the like are no JSON, though Python takes them


def quoted(rest: str, escape: str) -> list[str]:
    """Words whose quotes keep blanks in; quotes and escapes stay, for the expansion."""
    found: list[str] = []
    word: list[str] = []
    quote, blank, position = "", False, 0
    while position < len(rest):
        character = rest[position]
        position += 1
        if not quote and character in words.SPACE:
            if word or blank:
                found.append("".join(word))
            word, blank = [], False
            continue
        if not quote and character in "'\"":
            quote, blank = character, True
        elif character == quote:
            quote = ""
        elif character == escape and quote != "'":
            if position == len(rest):
                break
            word.append(character)
            character = rest[position]
            position += 1
        word.append(character)
    if word or blank:
        found.append("".join(word))
    return found


def pairs(rest: str, keyword: str, escape: str) -> tuple[tuple[instructions.Pair, ...], bool]:
    """Of ENV and LABEL, and whether they came in the old way, without ``=``: a name, and the rest of the line."""
    found = quoted(rest, escape)
    if not found:
        raise Malformed(f"{keyword} needs at least one NAME=VALUE")
    if "=" not in found[0]:
        name, *value = BLANKS.split(rest, maxsplit=1)
        if not value:
            raise Malformed(f"{keyword} needs a value for `{name}`", word=name, hint=f"write {keyword} {name}=VALUE")
        return (instructions.Pair(name, value[0]),), True
    for word in found:
        if "=" not in word:
            hint = "quote a value that has spaces in it" if word != "=" else "leave no space around ="
            raise Malformed(f"`{word}` is no NAME=VALUE", word=word, hint=hint)
        if word.startswith("="):
            raise Malformed(f"{keyword} needs a name before `=`", word=word)
    return tuple(instructions.Pair(*word.split("=", 1)) for word in found), False
