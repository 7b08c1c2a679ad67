"""Columns for people: three spaces apart, upper-case headings, widths that follow wide and combining characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from devenv.cli import terminal


def width(text: str) -> int:
    """Terminal cells, which is not ``len`` for East Asian and combining characters."""
    if text.isascii():
        return len(text)
    cells = 0
    for character in text:
        if unicodedata.combining(character) or unicodedata.category(character) in {"Cf", "Me", "Mn"}:
            continue
        cells += 2 if unicodedata.east_asian_width(character) in {"F", "W"} else 1
    return cells


def pad(text: str, cells: int) -> str:
    return text + " " * max(cells - width(text), 0)


def cut(text: str, cells: int) -> str:
    """The beginning of ``text`` that fits, with an ellipsis when something is missing."""
    if width(text) <= cells:
        return text
    taken, used = [], 0
    for character in text:
        used += width(character)
        if used > cells - 1:
            break
        taken.append(character)
    return "".join(taken) + ("…" if cells > 0 else "")


def render(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The whole table, with a newline at its end."""
    lines = [list(headings), *([terminal.visible(cell) for cell in row] for row in rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(headings))]
    text = []
    for line in lines:
        cells = [pad(cell, cells) for cell, cells in zip(line, widths, strict=True)]
        text.append("   ".join(cells).rstrip())
    return "\n".join(text) + "\n"
