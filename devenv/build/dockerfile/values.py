"""Values as Go reads them: booleans, durations, sizes, and fields separated by commas. Raises ``Malformed``."""

from __future__ import annotations

import re

from devenv.build.dockerfile.malformed import Malformed

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = re.compile(r"([0-9]{1,18}\.?[0-9]{0,18}|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)")
_LONGEST = 2**63 / 1e9
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_MULTIPLES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def boolean(text: str, name: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise Malformed(f"`{name}` is true or false, not `{text}`", word=text)
    return text in _TRUE


def duration(text: str) -> float:
    """Seconds: ``1m30s``, ``1.5h``, ``500ms``."""
    unsigned = text[1:] if text[:1] in {"-", "+"} else text
    if unsigned == "0":
        return 0.0
    total, position = 0.0, 0
    while position < len(unsigned) or not unsigned:
        found = _SPAN.match(unsigned, position)
        if found is None:
            raise Malformed(f"`{text}` is no duration", word=text, hint="write it like 30s, 1m30s or 500ms")
        total += float(found[1]) * _UNITS[found[2]]
        position = found.end()
    if total >= _LONGEST:
        raise Malformed(f"`{text}` is longer than a duration can be", word=text)
    return -total if text.startswith("-") else total


def size(text: str, name: str) -> int:
    """Bytes: ``64m``, ``1.5GB``, ``2KiB``; units count in 1024s."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Malformed(f"`{name}` is no size: `{text}`", word=text, hint="write it like 64m or 1g")
    return int(float(found[1]) * _MULTIPLES[found[2].lower()])


def number(text: str, name: str, *, base: int = 10) -> int:
    """Of 32 bits, without a sign."""
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 12 or text.strip(digits) or int(text, base) >= 2**32:
        what = "an octal number" if base == 8 else "a number"
        raise Malformed(f"`{name}` is {what}, not `{text}`", word=text)
    return int(text, base)


def fields(text: str) -> list[str]:
    """One record of CSV: a field that begins with a quote may hold commas, and quotes that are doubled."""
    found: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field, position = text[position:end], end
            if '"' in field:
                raise Malformed(f"a quote in the middle of `{field}`", word=field, hint="quote the whole field")
        found.append(field)
        if position >= len(text):
            return found
        position += 1


def _quoted(text: str, position: int) -> tuple[str, int]:
    field = ""
    while True:
        end = text.find('"', position)
        if end < 0:
            raise Malformed(f"the quote in `{text}` is not closed", word=text)
        field += text[position:end]
        if text.startswith('"', end + 1):
            field += '"'
            position = end + 2
        elif end + 1 == len(text) or text[end + 1] == ",":
            return field, end + 1
        else:
            raise Malformed(f"`{text}` goes on behind a quote that is closed", word=text)
