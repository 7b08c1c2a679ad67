"""``devenv logs --grep``: whole lines that match, and nothing of others."""

from __future__ import annotations

import re
from collections.abc import Callable

from devenv import errors
from devenv.cli import inventory
from devenv.runtime import logs

_LONGEST = 1 << 16  # bytes of a line that are looked at; what comes after goes the way of its beginning

Show = Callable[[inventory.Container, logs.Line], None]


def pattern(text: str, *, ignore_case: bool) -> re.Pattern[bytes]:
    """Raises ``UsageError``."""
    try:
        return re.compile(text.encode("utf-8", "surrogateescape"), re.IGNORECASE if ignore_case else 0)
    except re.error as exc:
        raise errors.UsageError(f"`--grep {text}` is no regular expression: {exc}") from None


class Filter:
    """Stands before a printer. A line comes in pieces where it is long: they wait until it is whole, or too long."""

    def __init__(self, wanted: re.Pattern[bytes], show: Show) -> None:
        self._wanted = wanted
        self._show = show
        self._held: dict[tuple[str, str], list[logs.Line]] = {}
        self._decided: dict[tuple[str, str], bool] = {}

    def line(self, container: inventory.Container, line: logs.Line) -> None:
        source = (container.record.id, line.stream)
        if source not in self._decided:
            held = self._held.setdefault(source, [])
            held.append(line)
            if line.partial and sum(len(piece.data) for piece in held) < _LONGEST:
                return
            del self._held[source]
            passes = self._wanted.search(b"".join(piece.data for piece in held)) is not None
            for piece in held if passes else ():
                self._show(container, piece)
            if line.partial:
                self._decided[source] = passes
            return
        if self._decided[source]:
            self._show(container, line)
        if not line.partial:
            del self._decided[source]
