"""Where this machine gets its packages from, as apt is configured: for images of the same distribution.

Both of apt's formats are read, sources.list(5)'s lines and the stanzas of ``*.sources``. What is asked for another
suite than the machine's own is the same with that suite's name: `bookworm-updates` becomes `trixie-updates`.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from devenv import errors

ETC = "/etc/apt"
# They have no updates and no security: everything goes straight into them.
_ROLLING = frozenset({"sid", "unstable", "experimental", "devel"})
_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)")


class Source(NamedTuple):
    uri: str
    suite: str
    components: str

    def __str__(self) -> str:
        return f"deb {self.uri} {self.suite} {self.components}"


def of(distribution: str, suite: str, *, etc: str = ETC) -> list[Source]:
    """For a suite of a distribution, the suite itself first. Raises ``ImageError`` if this machine has no mirror."""
    have = [each for each in configured(etc) if _is_of(each.uri, distribution)]
    own = next((each.suite for each in have if "-" not in each.suite), "")
    found: list[Source] = []
    for each in have:
        name, dash, pocket = each.suite.partition("-")
        if name == own and not each.suite.endswith("-backports") and not (dash and suite in _ROLLING):
            found.append(each._replace(suite=suite + dash + pocket))
    # A login in an address would be in the image, for whoever gets it.
    found = [each for each in dict.fromkeys(found) if "@" not in urllib.parse.urlsplit(each.uri).netloc]
    if not any(each.suite == suite for each in found):
        raise errors.ImageError(
            f"apt's sources on this machine name no mirror of {distribution}", hint="name one with `--mirror URL`"
        )
    return sorted(found, key=lambda each: each.suite != suite)


def configured(etc: str = ETC) -> Iterator[Source]:
    for path in _files(etc):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        yield from _stanzas(text) if path.endswith(".sources") else _lines(text)


def _files(etc: str) -> Iterator[str]:
    yield f"{etc}/sources.list"
    folder = f"{etc}/sources.list.d"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    yield from (f"{folder}/{name}" for name in names if name.endswith((".list", ".sources")))


def _lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.partition("#")[0].strip()):
            yield Source(match[1], match[2], " ".join(match[3].split()))


def _stanzas(text: str) -> Iterator[Source]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in "\n".join(lines).split("\n\n"):
        fields = dict(_fields(stanza.splitlines()))
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in {"no", "false"}:
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, " ".join(fields.get("components", "").split()))


def _fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    name, value = "", ""
    for line in lines:
        if line[:1].isspace():
            value += " " + line.strip()
            continue
        if name:
            yield name, value
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
    if name:
        yield name, value


def _is_of(uri: str, distribution: str) -> bool:
    """By the last part of its path, as mirrors are laid out: `/debian`, `/debian-security`, `/ubuntu`."""
    last = urllib.parse.urlsplit(uri).path.rstrip("/").rpartition("/")[2]
    return last.partition("-")[0] == distribution
