"""Durations and sizes as the Compose Specification writes them."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "ns": 1e-9, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


def seconds(value: Any) -> float:
    """``1m30s`` or ``500ms``, as Go's time.Duration prints it; a bare number counts seconds."""
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip()
    if text in {"", "0"}:
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"`{value}` is not a duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def size(value: Any) -> int:
    """``64m``, ``1.5gb`` or plain bytes; units count in 1024s, as docker's do. -1 means without limit."""
    if isinstance(value, int | float):
        return int(value)
    text = str(value).strip()
    if text == "-1":
        return -1
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"`{value}` is not a size")
    return int(float(match[1]) * _SIZES[match[2].lower()])
