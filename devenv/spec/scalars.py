"""Numbers, durations, sizes and command lines, read and written as docker compose does.

Compose is written in Go, and its canonical form shows: ``1m30s``, ``1e+06``, a float of 32 bits. What is here agrees
with it to the character, since `devenv config` is compared with `docker compose config`.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".inf": math.inf,
    ".Inf": math.inf,
    ".INF": math.inf,
    "+.inf": math.inf,
    "+.Inf": math.inf,
    "+.INF": math.inf,
    "-.inf": -math.inf,
    "-.Inf": -math.inf,
    "-.INF": -math.inf,
    ".nan": math.nan,
    ".NaN": math.nan,
    ".NAN": math.nan,
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NUMERIC = frozenset("0123456789+-.")
_LOWEST, _HIGHEST, _UNSIGNED = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def resolve(text: str) -> Any:
    """The value of a plain (unquoted) scalar: YAML 1.2's core schema, and octal with a bare 0 in front besides."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    plain = text.replace("_", "")
    number = _integer(plain)
    if number is not None:
        return number
    if _FLOAT.fullmatch(plain):
        value = float(plain)
        if not math.isinf(value):
            return value
    return text


def _integer(plain: str) -> int | None:
    match = _INTEGER.fullmatch(plain) if len(plain) <= 70 else None
    if match is None:
        return None
    sign, hexadecimal, binary, octal, decimal = match.groups()
    digits, base = next(
        (part, base) for part, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)) if part
    )
    value = int(digits, base)
    if sign:
        value = -value if sign == "-" else value
        return value if _LOWEST <= value <= _HIGHEST else None
    return value if value <= _UNSIGNED else None


def cast_tag(kind: str, text: str) -> Any:
    """A scalar with an explicit tag. Raises KeyError for a tag not of YAML's own, ValueError when it doesn't fit."""
    if kind in {"str", "binary", "timestamp"}:
        return text
    value = resolve(text)
    wanted: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    if not isinstance(value, wanted[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ValueError(text)
    return float(value) if kind == "float" else value


def describe(value: Any) -> str:
    """What kind of thing a value is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {'true' if value else 'false'}"
    if isinstance(value, int | float):
        return f"the number {show(value)}"
    if isinstance(value, str):
        return f"the text `{value if len(value) <= 60 else value[:59] + '…'}`"
    return "a mapping" if isinstance(value, dict) else "a list"


def show(value: Any) -> str:
    """As Go prints a value into text: what an environment variable given as a number holds."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _show_float(value)
    return str(value)


def _show_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    # repr has the shortest digits that read back the same; only its layout differs from Go's %v.
    digits = repr(value).lower().lstrip("-").partition("e")[0].replace(".", "").strip("0")
    exponent = int(f"{value:.{len(digits) - 1}e}".partition("e")[2])
    sign = "-" if value < 0 else ""
    # %v writes an exponent from 1e+06 on, and below 1e-04.
    if exponent < -4 or exponent >= 6:
        body = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{sign}{body}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    if len(digits) <= exponent + 1:
        return sign + digits + "0" * (exponent + 1 - len(digits))
    return f"{sign}{digits[: exponent + 1]}.{digits[exponent + 1 :]}"


def float32(value: float) -> float:
    """The nearest float of 32 bits, in its shortest notation."""
    try:
        packed = struct.pack("f", value)
    except (OverflowError, struct.error):
        raise ValueError(f"`{value}` is too large") from None
    single: float = struct.unpack("f", packed)[0]
    if math.isinf(single) or math.isnan(single):
        raise ValueError(f"`{value}` is not a number to count with")
    for precision in range(1, 10):
        text = float(f"{single:.{precision}g}")
        if struct.pack("f", text) == packed:
            return text
    return single


def boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in {"true", "y", "yes", "on"}:
        return True
    if lowered in {"false", "n", "no", "off"}:
        return False
    raise ValueError(f"`{text}` is neither true nor false")


_DIGITS = re.compile(r"[-+]?[0-9]+")


def whole(text: str) -> int:
    if not _DIGITS.fullmatch(text) or len(text) > 20 or not _LOWEST <= int(text) <= _HIGHEST:
        raise ValueError(f"`{text}` is not a whole number")
    return int(text)


def real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"`{text}` is not a number") from None
    if not math.isfinite(value) or "_" in text:
        raise ValueError(f"`{text}` is not a number")
    return value


_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]+)")


def nanoseconds(text: str) -> int:
    """``1m30s``, ``1.5h``, ``2d``: units from ns to w; only 0 goes without one."""
    problem = ValueError(f"`{text}` is not a duration: write it like 1m30s, 500ms or 2h")
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest) or not rest:
        match = _PART.match(rest, position)
        if match is None or match[3] not in _UNITS or not (match[1] or match[2]):
            raise problem
        unit = _UNITS[match[3]]
        fraction = match[2] or ""
        total += int((match[1] or "0")[:30]) * unit + (int(fraction[:18] or "0") * unit // 10 ** len(fraction[:18]))
        if total > _HIGHEST:
            raise ValueError(f"`{text}` is longer than a duration can be (292 years)")
        position = match.end()
    return -total if text.startswith("-") else total


def duration(text: str) -> str:
    """The canonical spelling, as Go's time.Duration prints itself."""
    total = nanoseconds(text)
    sign = "-" if total < 0 else ""
    total = abs(total)
    if total == 0:
        return "0s"
    if total < 1_000_000_000:
        unit, size = ("ns", 1) if total < 1_000 else ("µs", 1_000) if total < 1_000_000 else ("ms", 1_000_000)
        return f"{sign}{_fraction(total, size)}{unit}"
    minutes, rest = divmod(total, 60_000_000_000)
    text = f"{_fraction(rest, 1_000_000_000)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return sign + text


def _fraction(value: int, unit: int) -> str:
    whole_part, rest = divmod(value, unit)
    if not rest:
        return str(whole_part)
    return f"{whole_part}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"


def seconds(text: str) -> float:
    return nanoseconds(text) / 1e9


_SIZE = re.compile(r"([0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?) ?([a-zA-Z]*)")
_MULTIPLES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def size(value: int | float | str) -> int:
    """Bytes: ``64m``, ``1.5gb``, ``2 KiB`` (units count in 1024s), or a plain number; -1 means without limit."""
    if not isinstance(value, str):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"`{value}` is not a size")
        return int(value)
    if _DIGITS.fullmatch(value) and len(value) <= 19:
        return int(value)
    match = _SIZE.fullmatch(value)
    suffix = match[2].lower() if match else ""
    if match is None or not any(digit.isdigit() for digit in match[1]) or not _suffix(suffix):
        raise ValueError(f"`{value}` is not a size: write it like 512m, 1g or 1024")
    number = float(match[1]) * _MULTIPLES[suffix[:1] or "b"]
    if not number <= _HIGHEST:
        raise ValueError(f"`{value}` is larger than a size can be")
    return int(number)


def _suffix(suffix: str) -> bool:
    if suffix in {"", "b"}:
        return True
    return suffix[0] in "kmgtp" and suffix[1:] in {"", "b", "ib"}


def port(value: Any) -> int:
    """The number of a port; 0 where it is none."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        return 0
    return number if 1 <= number <= 65535 else 0


def words(line: str) -> list[str]:
    """A command line in words: quotes and backslashes as in a shell, and the end at `;`, `&`, `|`, `<` or `>`, since
    there is no shell to understand them."""
    found: list[str] = []
    word = ""
    started = escaped = subshell = False
    quote = ""
    for character in line:
        if escaped:
            word += {"t": "\t", "n": "\n"}.get(character, character)
            escaped, started = False, True
        elif character == "\\" and quote != "'":
            escaped = True
        elif character in " \t\r\n":
            if quote or subshell:
                word += character
            elif started:
                found.append(word)
                word, started = "", False
        elif character in "\"'" and not subshell and quote in {"", character}:
            quote = "" if quote else character
            started = started or not quote
        elif character == "`" and not subshell and quote in {"", "`"}:
            quote = "" if quote else "`"
            word += character
            started = True
        elif character in "()" and not quote:
            opened = not subshell and word.endswith("$")
            if opened != (character == "(") or (character == ")" and not subshell):
                raise ValueError(f"`{character}` needs a shell: write `sh -c '…'`, or quote it")
            subshell = character == "("
            word += character
            started = True
        elif character in ";&|<>" and not quote and not subshell:
            if character == ">" and word[:1].isdigit():
                started = False
            break
        else:
            word += character
            started = True
    if escaped or quote or subshell:
        raise ValueError("a quote, a bracket or a backslash at the end is not closed")
    if started:
        found.append(word)
    return found
