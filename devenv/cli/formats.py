"""Times, sizes and ports as docker prints them, so that eyes and scripts need not learn them again."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterable, Sequence

from devenv import errors


def duration(seconds: float) -> str:
    """``3 minutes``, ``About an hour``: the words of Go's ``units.HumanDuration``."""
    whole = int(max(seconds, 0))
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = math.floor(whole / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for unit, length, limit in (("days", 24, 14), ("weeks", 24 * 7, 60 / 7), ("months", 24 * 30, 730 / 30)):
        if hours < length * limit:
            return f"{hours // length} {unit}"
    return f"{hours // (24 * 365)} years"


def elapsed(seconds: float) -> str:
    """``0.3s``, ``1m 02.5s``: how long a step has taken."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m {rest:04.1f}s"


def status(
    state: str,
    *,
    now: float,
    started: float | None,
    finished: float | None,
    exit_code: int | None,
    health: str,
    oom_killed: bool = False,
) -> str:
    """The words after a container's name: ``Up 3 minutes (healthy)``, ``Exited (1) 2 seconds ago``."""
    if state in {"running", "paused"}:
        suffix = {"healthy": " (healthy)", "unhealthy": " (unhealthy)", "starting": " (health: starting)"}
        extra = " (Paused)" if state == "paused" else suffix.get(health, "")
        return f"Up {duration(now - (started or now))}{extra}"
    if state in {"exited", "restarting"}:
        code = 255 if exit_code is None else exit_code
        when = f" {duration(now - finished)} ago" if finished else ""
        return f"{state.capitalize()} ({code}){when}{', out of memory' if oom_killed else ''}"
    return state.capitalize()


def timestamp(seconds: float) -> str:
    """As Go prints a time.Time: ``2026-01-02 03:04:05 +0000 UTC``."""
    moment = datetime.datetime.fromtimestamp(seconds).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z ") + (moment.tzname() or "")


def rfc3339(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def command(words: Sequence[str], *, truncate: bool) -> str:
    """In quotes, and cut to twenty characters as docker does."""
    text = " ".join(words)
    if truncate and len(text) > 20:
        text = text[:19] + "…"
    return json.dumps(text, ensure_ascii=False)


def labels(values: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(values.items()))


def ports(publishers: Iterable[dict[str, object]]) -> str:
    """``0.0.0.0:8080->80/tcp, 9000/tcp``; runs of neighbours are joined: ``0.0.0.0:80-82->80-82/tcp``."""
    rows = sorted(
        (str(item["Protocol"]), str(item["URL"]), _int(item["TargetPort"]), _int(item["PublishedPort"]))
        for item in publishers
    )
    groups: list[list[tuple[str, str, int, int]]] = []
    for row in rows:
        last = groups[-1][-1] if groups else None
        step = (row[0], row[1], row[2] - 1, row[3] - 1 if row[3] else 0)
        if last is not None and last == step:
            groups[-1].append(row)
        else:
            groups.append([row])
    return ", ".join(_port_group(group) for group in sorted(groups, key=lambda group: group[0][2]))


def _port_group(group: list[tuple[str, str, int, int]]) -> str:
    protocol, host, target, published = group[0]
    length = len(group) - 1
    span = f"-{target + length}" if length else ""
    inside = f"{target}{span}/{protocol}"
    if not published:
        return inside
    outside = f"{published}-{published + length}" if length else str(published)
    return f"{address(host)}:{outside}->{inside}"


def _int(value: object) -> int:
    return int(str(value or 0))


def address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h|d)")
_UNIX = re.compile(r"\d+(\.\d+)?")


def moment(text: str, *, now: float, option: str) -> float:
    """A point in time for ``--since`` and ``--until``: RFC 3339, a date, a Unix time, or ``10m`` (ago)."""
    if _UNIX.fullmatch(text):
        return float(text)
    seconds = parse_duration(text)
    if seconds is not None:
        return now - seconds
    try:
        # Go prints nanoseconds; Python reads no more than microseconds before 3.11 and cuts the rest since.
        value = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise errors.UsageError(
            f"`{text}` is not a time that `{option}` understands",
            hint="write 2026-01-31T12:00:00Z, 2026-01-31, a Unix time, or a span like 10m or 1h30m",
        ) from None
    return value.timestamp()


def parse_duration(text: str) -> float | None:
    """``1h30m`` in seconds, or None when it is no duration."""
    position, total = 0, 0.0
    for match in _DURATION.finditer(text):
        if match.start() != position:
            return None
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    return total if text and position == len(text) else None


def seconds_or_duration(text: str | None, *, option: str) -> float | None:
    """``--timeout 10`` and ``--timeout 1m30s``."""
    if text is None:
        return None
    try:
        value: float | None = float(text)
    except ValueError:
        value = parse_duration(text)
    if value is None or value < 0 or not math.isfinite(value):
        raise errors.UsageError(f"`{option} {text}` is not a number of seconds", hint="write 10 or 1m30s")
    return value


def size(count: float) -> str:
    """``7.34MB``: decimal units, as docker has them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}TB"


def binary_size(count: float) -> str:
    """``19.4MiB``, as docker has memory."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g}{unit}"
        count /= 1024
    return f"{count:.4g}TiB"


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(i?)[bB]?")


def parse_size(text: str) -> int:
    """`20GB`, `500m`, `1.5GiB`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise errors.UsageError(f"`{text}` is no size", hint="write 500MB, 20GB or 1.5GiB")
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)
