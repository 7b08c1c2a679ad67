"""Signals by name or number, as `stop_signal` and `kill -s` have them."""

from __future__ import annotations

import signal

from devenv import errors


def parse(text: str | int) -> int:
    """``SIGTERM``, ``TERM``, ``15``, ``SIGRTMIN+3``. Raises ``ContainerError`` for what is none."""
    name = str(text).strip().upper()
    if name.isdecimal():
        if len(name) < 4 and 0 < int(name) <= signal.SIGRTMAX:
            return int(name)
    else:
        name = name if name.startswith("SIG") else f"SIG{name}"
        base, plus, offset = name.partition("+")
        number = getattr(signal, base, None)
        if base.startswith("SIG") and not base.startswith("SIG_") and isinstance(number, int):
            found = int(number) + (int(offset) if plus and offset.isdecimal() else 0)
            if 0 < found <= signal.SIGRTMAX:
                return found
    raise errors.ContainerError(f"`{text}` is not a signal", hint="use a name as `SIGTERM` or a number as `15`")
