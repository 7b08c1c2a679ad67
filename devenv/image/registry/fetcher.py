"""Blobs, from wherever they can be had: resumed where the last attempt ended, never longer than was promised.

What arrives goes to ``write`` piece by piece; whoever takes it hashes it and believes nothing before the end.
Only the registry's own hosts are asked: the ``urls`` that a descriptor may carry are not followed (CVE-2020-15157).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from devenv.image import descriptor
from devenv.image.registry import connections, errors, session

CHUNK = 256 << 10
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)
# A server that sends less than this for so long is taken for a dead one.
_SLOWEST = 1 << 10
_SLOW_PATIENCE = 60.0


class Target(Protocol):
    """Where the bytes go."""

    @property
    def offset(self) -> int:
        """How many are there already."""

    def write(self, data: memoryview, /) -> None: ...


class Fetcher:
    def __init__(self, sessions: Sequence[session.Session], repository: str) -> None:
        self._sessions = sessions
        self._repository = repository

    def fetch(
        self, wanted: descriptor.Descriptor, target: Target, *, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """All of the blob that ``target`` lacks. Raises ``RegistryError``, and what ``target.write`` raises."""
        *mirrors, last = self._sessions
        for each in mirrors:
            try:
                self._from(each, wanted, target, progress)
            except errors.RegistryError:
                continue  # the registry itself has the last word; what came is kept
            return
        self._from(last, wanted, target, progress)

    def _from(
        self, each: session.Session, wanted: descriptor.Descriptor, target: Target, progress: Callable[[int], None]
    ) -> None:
        name = each.repository(self._repository)
        url = each.url(f"/v2/{name}/blobs/{wanted.digest}")
        before = target.offset

        def progressed() -> bool:
            nonlocal before
            further = target.offset - before
            before = target.offset
            return further > 0

        def attempt() -> None:
            start = target.offset
            headers = {"Range": f"bytes={start}-"} if start else {}
            scopes = (f"repository:{name}:pull",)
            try:
                response = each.once("GET", url, ok={200, 206, 416}, headers=headers, scopes=scopes)
            except errors.NotFound as exc:
                message = f"`{each.endpoint.host}` has no blob {wanted.digest} in `{name}`"
                raise errors.NotFound(message, hint="its manifest names it: push the image again") from exc
            with response:
                skip = _skip(response, start, wanted, each.endpoint.host)
                _copy(response, wanted, target, skip, progress)

        if wanted.size > before:
            each.repeat(attempt, progressed=progressed)


def _skip(response: connections.Response, start: int, wanted: descriptor.Descriptor, host: str) -> int:
    """How many bytes of the body are here already: a server may not know ranges and send all of it again."""
    if response.status == 416:
        raise errors.Untrustworthy(
            f"`{host}` has no bytes from {start} on of {wanted.digest}, its descriptor says {wanted.size}"
        )
    first = 0
    if response.status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range") or "")
        if match is None or int(match[1]) != start or (match[3] != "*" and int(match[3]) != wanted.size):
            raise errors.Untrustworthy(f"`{host}` sends other bytes of {wanted.digest} than those from {start} on")
        first = start
    if response.length is not None and first + response.length != wanted.size:
        raise errors.Untrustworthy(
            f"`{host}` has {first + response.length} bytes for {wanted.digest}, its descriptor says {wanted.size}"
        )
    return start - first


def _copy(
    response: connections.Response,
    wanted: descriptor.Descriptor,
    target: Target,
    skip: int,
    progress: Callable[[int], None],
) -> None:
    buffer = memoryview(bytearray(CHUNK))
    pace = _Pace()
    while count := response.readinto(buffer):
        pace.count(count)
        old = min(skip, count)
        skip -= old
        if count > old:
            target.write(buffer[old:count])
            progress(target.offset)
    if target.offset < wanted.size:
        message = f"the connection ended after {target.offset} of {wanted.size} bytes of {wanted.digest}"
        raise errors.Temporary(errors.Unreachable(message))


class _Pace:
    """Ends a transfer that trickles."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._bytes = 0

    def count(self, size: int) -> None:
        self._bytes += size
        now = time.monotonic()
        if now - self._since < _SLOW_PATIENCE:
            return
        if self._bytes < _SLOWEST * _SLOW_PATIENCE:
            raise errors.Temporary(errors.Unreachable("the registry sends too slowly"))
        self._since, self._bytes = now, 0
