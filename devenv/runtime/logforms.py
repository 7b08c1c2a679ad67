"""A line that a container printed, as the journal's native protocol and as syslog have it. Pure.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL, RFC 3164 and RFC 5424; fields and defaults are Docker's.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

# Of a stream, a line, and whether its end is still to come: what is sent.
Form = Callable[[str, bytes, bool], bytes]

_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", ""),
    *(f"local{number}" for number in range(8)),
)
FACILITIES = {name: number for number, name in enumerate(_FACILITIES) if name}
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_SEVERITIES = {"stdout": 6, "stderr": 3}  # informational and error: syslog(3)
_MARKUP = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
TAG_WORDS = ("DaemonName", "FullID", "ID", "ImageFullID", "ImageID", "ImageName", "Name")


def unknown_markup(tag: str) -> str:
    """What of a `tag` is not known, or nothing."""
    left = _MARKUP.sub(lambda match: "" if match[1] in TAG_WORDS else match[0], tag)
    return left if "{{" in left else ""


def tag(record: Mapping[str, Any]) -> str:
    """``container.json``'s `tag`, filled in. A tag has no space: it would end it."""
    image = str(record.get("image_id") or "").rpartition(":")[2]
    values = (
        *("devenv", record["id"], record["id"][:12]),
        *(image, image[:12], record.get("image") or "", record["name"]),
    )
    words = dict(zip(TAG_WORDS, values, strict=True))
    given = str((record.get("logging") or {}).get("tag") or "{{.ID}}")
    return _MARKUP.sub(lambda match: str(words.get(match[1], match[0])), given).replace(" ", "_")


def journal(record: Mapping[str, Any]) -> Form:
    name = tag(record)
    fields = {
        "CONTAINER_ID": record["id"][:12],
        "CONTAINER_ID_FULL": record["id"],
        "CONTAINER_NAME": record["name"],
        "CONTAINER_TAG": name,
        "IMAGE_NAME": record.get("image") or "",
        "SYSLOG_IDENTIFIER": name,
    }
    labels = record.get("labels") or {}
    for label in str((record.get("logging") or {}).get("labels") or "").split(","):
        if label in labels:
            # Of a field's name the journal takes no more than this, and no underscore at its start.
            fields[re.sub("[^A-Z0-9]", "_", label.upper()).lstrip("_")] = labels[label]
    head = b"".join(_field(key, str(value).encode()) for key, value in fields.items() if key)

    def form(stream: str, line: bytes, partial: bool) -> bytes:
        more = _field("PRIORITY", b"%d" % _SEVERITIES[stream]) + (
            _field("CONTAINER_PARTIAL_MESSAGE", b"true") if partial else b""
        )
        return head + more + _field("MESSAGE", line)

    return form


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def syslog(record: Mapping[str, Any]) -> Form:
    options = record.get("logging") or {}
    facility = FACILITIES[str(options.get("syslog-facility") or "daemon")]
    kind, name, host, pid = str(options.get("syslog-format") or ""), tag(record), os.uname().nodename, os.getpid()

    def form(stream: str, line: bytes, partial: bool) -> bytes:
        priority = facility * 8 + _SEVERITIES[stream]
        if kind.startswith("rfc5424"):
            head = f"<{priority}>1 {_precise(micro=kind.endswith('micro'))} {host} {name} {pid} {name} - "
        else:
            now = time.localtime()
            stamp = f"{time.strftime('%b', now)} {now.tm_mday:2} {time.strftime('%H:%M:%S', now)}"
            head = f"<{priority}>{stamp} {f'{host} ' if kind else ''}{name}[{pid}]: "
        return head.encode() + line

    return form


def _precise(*, micro: bool) -> str:
    now = time.time()
    fraction = f".{int(now % 1 * 1e6):06d}" if micro else ""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}{fraction}Z"
