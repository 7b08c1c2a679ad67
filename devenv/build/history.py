"""What an image's history says of each instruction, in BuildKit's words: other tools read them, and people compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COMMENT = "buildkit.dockerfile.v0"
_LAYERED = " # buildkit"


def run(args: Sequence[str], arguments: Mapping[str, str]) -> str:
    """``arguments``: what ARG declared so far, which the command sees in its environment."""
    words = [f"|{len(arguments)}", *(f"{name}={value}" for name, value in arguments.items())] if arguments else []
    return f"RUN {' '.join([*words, *args])}{_LAYERED}"


def transfer(
    word: str,
    sources: Iterable[str],
    target: str,
    *,
    heredocs: Iterable[str] = (),
    chown: str = "",
    chmod: str = "",
    parents: bool = False,
) -> str:
    words = [word]
    words += ["--parents"] if parents else []
    words += [f"--chown={chown}"] if chown else []
    words += [f"--chmod={chmod}"] if chmod else []
    words += [*sources, *(f"<<{name}" for name in heredocs), target]
    return " ".join(words) + _LAYERED


def pairs(word: str, given: Iterable[tuple[str, str | None]]) -> str:
    """ENV, LABEL and ARG."""
    return " ".join([word, *(name if value is None else f"{name}={value}" for name, value in given)])


def exec_form(word: str, args: Iterable[str]) -> str:
    return f"{word} [{' '.join(map(_quoted, args))}]"


def listed(word: str, values: Iterable[str]) -> str:
    """SHELL and VOLUME."""
    return f"{word} [{' '.join(values)}]"


def expose(ports: Iterable[str]) -> str:
    return f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in sorted(ports))}]"


def healthcheck(given: Mapping[str, Any]) -> str:
    times = (given.get(name, 0) for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"))
    test = " ".join(map(_quoted, given.get("Test") or []))
    retries = int(given.get("Retries", 0))
    shown = chr(retries) if 32 <= retries < 127 and retries != 39 else f"\\x{retries:02x}"
    return f"HEALTHCHECK &{{[{test}] {' '.join(f'{chr(34)}{duration(each)}{chr(34)}' for each in times)} '{shown}'}}"


def duration(nanoseconds: int) -> str:
    """As Go writes a time.Duration: 1h0m0s, 1m30s, 1.5s, 300ms."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanoseconds < size * 1000:
            return f"{_number(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_number(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _number(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"


def _quoted(text: str) -> str:
    """As Go's %q."""
    escapes = {
        "\\": "\\\\",
        '"': '\\"',
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
    shown = "".join(escapes.get(char) or (char if char.isprintable() else f"\\x{ord(char):02x}") for char in text)
    return f'"{shown}"'
