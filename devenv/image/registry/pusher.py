"""The other way: blobs first, then manifests, the one that the tag names last.

    HEAD blob ── there ─────────────────────────────────────────────▶ done
       └─ POST uploads ?mount=…&from=… ── 201 ──────────────────────▶ done, not a byte was sent
            └─ 202 Location ── small: PUT all of it ────────────────▶ done
                            └─ large: PATCH piece by piece, PUT ────▶ done

A large blob goes in pieces, so that a cut costs one of them: the registry is asked how far it got. One that has
forgotten the upload, as distribution does when it was cut in the middle of a piece, gets it from the beginning.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from typing import IO

from devenv.image import descriptor
from devenv.image.registry import addresses, connections, errors, session

PIECE = 64 << 20  # some proxies take no more than 100 MB at once
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})", re.ASCII)

Progress = Callable[[int], None]


class Pusher:
    """Of one repository."""

    def __init__(self, where: session.Session, repository: str, *, piece: int = PIECE) -> None:
        self._session = where
        self._name = where.repository(repository)
        self._piece = piece
        self._scopes = (f"repository:{self._name}:pull,push",)

    def has(self, wanted: descriptor.Descriptor) -> bool:
        """Whether the blob is in the repository already."""
        try:
            self._ask("HEAD", self._url(f"blobs/{wanted.digest}"), ok={200}).close()
        except errors.NotFound:
            return False
        return True

    def has_manifest(self, target: descriptor.Descriptor) -> bool:
        try:
            url = self._url(f"manifests/{target.digest}")
            self._ask("HEAD", url, ok={200}, headers={"Accept": target.media_type}).close()
        except errors.NotFound:
            return False
        return True

    def blob(
        self,
        wanted: descriptor.Descriptor,
        path: str,
        *,
        mount_from: str = "",
        progress: Progress = lambda _: None,
    ) -> str:
        """The blob in the file ``path``. ``mount_from`` is a repository of this registry that may have it. Returns
        what it came to: ``exists``, ``mounted`` or ``pushed``."""
        if self.has(wanted):
            return "exists"
        upload = self._begin(wanted, mount_from)
        if upload is None:
            return "mounted"
        if wanted.size <= self._piece:
            self._whole(wanted, path, upload, progress)
        else:
            self._in_pieces(wanted, path, upload, progress)
        return "pushed"

    def manifest(self, target: descriptor.Descriptor, data: bytes, *, tag: str = "") -> None:
        """Everything that it names must be there."""
        url = self._url(f"manifests/{tag or target.digest}")
        headers = {"Content-Type": target.media_type}
        with self._ask("PUT", url, ok={200, 201, 202}, headers=headers, body=connections.of_bytes(data)) as answer:
            said = answer.headers.get("Docker-Content-Digest")
        if said and said.startswith("sha256:") and said != target.digest:
            raise errors.Untrustworthy(f"the registry took {target.digest} for {said[:100]}")

    # -- uploads ----------------------------------------------------------------------------------------------

    def _url(self, path: str) -> addresses.Url:
        return self._session.url(f"/v2/{self._name}/{path}")

    def _ask(
        self,
        method: str,
        url: addresses.Url,
        *,
        ok: set[int],
        headers: Mapping[str, str] | None = None,
        body: connections.Body | None = None,
        once: bool = False,
    ) -> connections.Response:
        ask = self._session.once if once else self._session.request
        return ask(method, url, ok=ok, headers=headers, body=body, scopes=self._scopes)

    def _begin(self, wanted: descriptor.Descriptor, mount_from: str) -> addresses.Url | None:
        """Where to send it, or None: the registry has taken it from another repository."""
        url = self._url("blobs/uploads/")
        if mount_from:
            source = self._session.repository(mount_from)
            scopes = (*self._scopes, f"repository:{source}:pull")
            asked = url.with_query(mount=wanted.digest, **{"from": source})
            try:
                answer = self._session.request(
                    "POST", asked, ok={201, 202}, scopes=scopes, body=connections.of_bytes(b"")
                )
            except errors.RegistryError:
                pass  # who may not read there, or whose registry knows no mounts, uploads
            else:
                with answer:
                    return None if answer.status == 201 else self._next(answer, url)
        with self._ask("POST", url, ok={202}, body=connections.of_bytes(b"")) as answer:
            return self._next(answer, url)

    def _next(self, answer: connections.Response, url: addresses.Url) -> addresses.Url:
        """Each answer says where to go on."""
        location = answer.headers.get("Location")
        if not location:
            raise errors.Untrustworthy("the registry does not say where to upload to")
        target = addresses.parse(location, url)
        if target.scheme == "http" and url.scheme == "https":
            if target.host != url.host:
                raise errors.Untrustworthy(f"the registry wants an upload without TLS to `{target.authority}`: refused")
            # One behind a proxy that ends TLS often doesn't know of it.
            target = target._replace(scheme="https", port=url.port)
        return target

    def _whole(self, wanted: descriptor.Descriptor, path: str, upload: addresses.Url, progress: Progress) -> None:
        begun = [upload]

        def attempt() -> None:
            # One that failed is not gone on with: the next attempt has an upload of its own.
            target = begun.pop() if begun else self._anew(wanted)
            self._finish(target, wanted, _piece(path, 0, wanted.size, progress))

        self._session.repeat(attempt)

    def _in_pieces(self, wanted: descriptor.Descriptor, path: str, upload: addresses.Url, progress: Progress) -> None:
        begun = [upload]
        furthest = reached = 0

        def progressed() -> bool:
            nonlocal furthest
            further, furthest = reached > furthest, max(reached, furthest)
            return further

        def attempt() -> None:
            nonlocal reached
            target = begun.pop() if begun else self._anew(wanted)
            offset = 0
            while offset < wanted.size:
                target, offset = self._advance(target, wanted, path, offset, progress)
                reached = max(reached, offset)
            self._finish(target, wanted, connections.of_bytes(b""))

        self._session.repeat(attempt, progressed=progressed)

    def _advance(
        self, upload: addresses.Url, wanted: descriptor.Descriptor, path: str, offset: int, progress: Progress
    ) -> tuple[addresses.Url, int]:
        """A piece further. Where that breaks off and the registry still knows the upload, once more."""
        size = min(self._piece, wanted.size - offset)
        try:
            return self._patch(upload, path, offset, size, progress)
        except errors.Temporary as exc:
            if offset == 0:
                raise  # there is nothing to go on with
            self._session.pool.pause(self._session.policy.pause(1, exc.delay))
            upload, there = self._where(upload, exc)
            if there < offset:
                raise
            return (upload, there) if there > offset else self._patch(upload, path, offset, size, progress)

    def _anew(self, wanted: descriptor.Descriptor) -> addresses.Url:
        upload = self._begin(wanted, "")
        assert upload is not None  # only a mount needs none
        return upload

    def _finish(self, upload: addresses.Url, wanted: descriptor.Descriptor, body: connections.Body) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        url = upload.with_query(digest=wanted.digest)
        try:
            self._ask("PUT", url, ok={201, 204}, headers=headers, body=body, once=True).close()
        except errors.NotFound as exc:
            # It has forgotten the upload.
            raise errors.Temporary(exc) from exc

    def _patch(
        self, upload: addresses.Url, path: str, offset: int, size: int, progress: Progress
    ) -> tuple[addresses.Url, int]:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{offset + size - 1}",
        }
        body = _piece(path, offset, size, progress)
        with self._ask("PATCH", upload, ok={202}, headers=headers, body=body, once=True) as answer:
            return self._next(answer, upload), offset + size

    def _where(self, upload: addresses.Url, cause: errors.Temporary) -> tuple[addresses.Url, int]:
        """How far a broken upload got. Where the registry can't say, ``cause`` begins it anew."""
        try:
            with self._ask("GET", upload, ok={204}, once=True) as answer:
                match = _RANGE.fullmatch(answer.headers.get("Range") or "")
                if match is None:
                    raise cause
                return self._next(answer, upload), int(match[1]) + 1
        except errors.RegistryError:
            raise cause from None


class _Section(io.RawIOBase):
    """A part of a file, and how much of it was read."""

    def __init__(self, path: str, offset: int, size: int, progress: Progress) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset
        self._end = offset + size
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._file, [buffer[: max(0, self._end - self._offset)]], self._offset)
        self._offset += count
        self._progress(self._offset)
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def _piece(path: str, offset: int, size: int, progress: Progress) -> connections.Body:
    def opened() -> IO[bytes]:
        return io.BufferedReader(_Section(path, offset, size, progress), 256 << 10)

    return connections.Body(opened, size)
