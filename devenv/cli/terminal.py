"""What a terminal can show, and what it must never be told.

Names, error texts and log lines come from containers and files, so they may hold escape sequences that retitle the
window, write to the clipboard or type on the user's behalf (CVE-2003-0063 and its many heirs). On a terminal every
control character but the tab is shown, not sent; colours (SGR sequences) of log lines pass.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

_SGR = re.compile(r"\x1b\[[0-9;:]*m")
# C0 without tab, DEL, C1; backslashreplace'd bytes are harmless already.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_RESET = "\x1b[0m"

# The order in which services get theirs, as docker compose has it.
PALETTE = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


def visible(text: str, *, keep_newlines: bool = False) -> str:
    """``text`` with every control character in caret notation."""
    if keep_newlines:
        return "\n".join(visible(line) for line in text.split("\n"))
    return _CONTROL.sub(_caret, text)


def visible_log(text: str) -> str:
    """As ``visible``, but colours stay, and end with the line."""
    if "\x1b" not in text:
        return _CONTROL.sub(_caret, text)
    pieces, position = [], 0
    for match in _SGR.finditer(text):
        pieces += [_CONTROL.sub(_caret, text[position : match.start()]), match.group()]
        position = match.end()
    pieces.append(_CONTROL.sub(_caret, text[position:]))
    if position:
        pieces.append(_RESET)
    return "".join(pieces)


def without_colours(text: str) -> str:
    return _SGR.sub("", text)


def _caret(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return f"^{chr(code + 0x40)}"
    return "^?" if code == 0x7F else f"\\x{code:02x}"


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour(stream: TextIO, ansi: str) -> bool:
    """``ansi`` is never, always or auto; https://no-color.org wins over auto."""
    if ansi in {"never", "always"}:
        return ansi == "always"
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}{_RESET}" if colour else text


def size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns or 80, rows or 24


def warn(text: str) -> None:
    print(f"warning: {visible(text, keep_newlines=True)}", file=sys.stderr)
