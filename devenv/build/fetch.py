"""Files from the web: what ADD of an address takes, and contexts that lie there.

    <data>/build/urls/<id of the address>/record.json          what the server said of it: ETag, Last-Modified
    <data>/build/urls/<id of the address>/<digest>/<name>      the file, 0600, as old as the server says

A file that is here is asked for with what the server called its version, and is not sent again if it is the same; with
a checksum nobody is asked. Proxies, TLS and waits are those of the registries' client.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import NamedTuple

from devenv import errors
from devenv.build import context, keeping, selection
from devenv.image.registry import addresses, connections, hosts, retry
from devenv.image.registry import errors as registry_errors
from devenv.util import fs, lock, tree

Secret = Callable[[str], bytes | None]
Progress = Callable[[int, int], None]  # bytes so far, and of how many; 0 where nobody said

_REDIRECTS = {301, 302, 303, 307, 308}
_REDIRECT_LIMIT = 10  # as Go's client
_PASSING = {408, 429, 500, 502, 503, 504}
_BLOCK = 256 << 10
_SETTLED = 60.0
_NAME = 64  # characters of a folder's, which is a digest
_CHECKSUM = re.compile(r"(sha256):([0-9a-f]{64})|(sha384):([0-9a-f]{96})|(sha512):([0-9a-f]{128})")


class Fetched(NamedTuple):
    folder: str  # that it lies in, alone
    name: str
    digest: str  # of its bytes

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    def selection(self) -> selection.Selection:
        """As ADD's source. The selection's tree is the caller's to close."""
        return selection.literal(context.folder(self.folder), self.name)


def is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def name_of(url: str) -> str:
    """What a file from there is called. Raises nothing: BuildKit has a name for those that have none."""
    name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path).rstrip("/"))
    return name if name not in {"", ".", ".."} and "\0" not in name else "__unnamed__"


class Fetcher:
    """Safe in threads. ``secret`` gives ``HTTP_AUTH_TOKEN_host`` and ``HTTP_AUTH_HEADER_host``."""

    def __init__(self, data: str, environ: Mapping[str, str], *, secret: Secret = lambda _: None) -> None:
        self._data = data
        self._secret = secret
        self._pool = connections.Connections(hosts.Hosts(environ), environ)

    def abort(self) -> None:
        """From any thread: what is under way ends with an error."""
        self._pool.abort()

    def close(self) -> None:
        self._pool.close()

    def file(self, url: str, *, checksum: str = "", progress: Progress = lambda _, __: None) -> Fetched:
        """Raises ``BuildError``."""
        wanted = _checksum(checksum) if checksum else None
        where = f"{self._data}/build/urls/{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
        os.makedirs(where, mode=0o700, exist_ok=True)
        try:
            with lock.held(f"{where}/lock"):
                found = _Download(self._pool, where, url, wanted, self._rights(url)).run(progress)
                keeping.used(found.folder)
                keeping.used(where)
                keeping.drop_unused(where, lambda name: len(name) == _NAME)
                return found
        except (registry_errors.RegistryError, registry_errors.Temporary) as exc:
            error = exc.error if isinstance(exc, registry_errors.Temporary) else exc
            raise errors.BuildError(f"`{shown(url)}` can't be had: {error}", hint=error.hint) from exc
        except OSError as exc:
            raise errors.BuildError(f"`{shown(url)}` can't be kept: {exc.strerror}") from exc

    def _rights(self, url: str) -> str:
        parts = urllib.parse.urlsplit(url)
        if parts.username is not None:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        if header := self._secret(f"HTTP_AUTH_HEADER_{parts.hostname}"):
            return header.decode("latin-1").strip()
        if token := self._secret(f"HTTP_AUTH_TOKEN_{parts.hostname}"):
            return f"Bearer {token.decode('latin-1').strip()}"
        return ""


class _Download:
    def __init__(
        self, pool: connections.Connections, where: str, url: str, wanted: tuple[str, str] | None, rights: str
    ) -> None:
        self._pool = pool
        self._where = where
        self._url = url
        self._wanted = wanted
        self._rights = rights
        self._name = name_of(url)
        record = fs.read_json(f"{where}/record.json")
        self._record: dict[str, str] = record if isinstance(record, dict) else {}

    def run(self, progress: Progress) -> Fetched:
        here = self._here()
        if here is not None and self._wanted is not None and self._record.get(self._wanted[0]) == self._wanted[1]:
            return here
        found = retry.call(lambda: self._attempt(here, progress), retry.DEFAULT, sleep=self._pool.pause)
        self._check()
        return found

    def _here(self) -> Fetched | None:
        digest = self._record.get("sha256", "")
        found = Fetched(f"{self._where}/{digest}", self._name, f"sha256:{digest}")
        return found if digest and os.path.isfile(found.path) else None

    def _attempt(self, here: Fetched | None, progress: Progress) -> Fetched:
        headers = {"Accept": "*/*"}
        if here is not None and (etag := self._record.get("etag")):
            headers["If-None-Match"] = etag
        elif here is not None and (modified := self._record.get("modified")):
            headers["If-Modified-Since"] = modified
        with self._follow(headers) as response:
            if response.status == 304 and here is not None:
                return here
            if response.status in _PASSING:
                wish = retry.retry_after(response.headers.get("Retry-After"))
                raise registry_errors.Temporary(
                    registry_errors.Unreachable(f"the server answers {response.status}"), delay=wish
                )
            if not 200 <= response.status < 300:
                raise registry_errors.RegistryError(f"the server answers {response.status}")
            return self._receive(response, progress)

    def _follow(self, headers: dict[str, str]) -> connections.Response:
        url = _parsed(self._url)
        if self._rights:
            headers["Authorization"] = self._rights
        for _ in range(_REDIRECT_LIMIT + 1):
            try:
                response = self._pool.request("GET", url, headers)
            except connections.NotTls:
                raise registry_errors.Unreachable(f"`{url.authority}` does not speak TLS") from None
            if response.status not in _REDIRECTS:
                return response
            with response:
                target = addresses.parse(response.headers.get("Location") or "", url)
            if addresses.is_link_local(target.host) and target.host != url.host:
                raise registry_errors.Untrustworthy(f"it redirects to `{target.authority}`: refused")
            if target.origin != url.origin:
                headers.pop("Authorization", None)
            url = target
        raise registry_errors.Untrustworthy(f"it redirects more than {_REDIRECT_LIMIT} times")

    def _receive(self, response: connections.Response, progress: Progress) -> Fetched:
        stage = f"{self._where}/stage.{os.urandom(6).hex()}"
        os.mkdir(stage, 0o700)
        try:
            digest = self._store(response, f"{stage}/{self._name}", progress)
            self._record = {"sha256": digest, **_versions(response)}
            found = Fetched(f"{self._where}/{digest}", self._name, f"sha256:{digest}")
            moment = os.stat(f"{stage}/{self._name}").st_mtime_ns
            if not os.path.isfile(found.path):
                os.rename(stage, found.folder)
            elif os.stat(found.path).st_mtime_ns != moment:  # another build may read it: its bytes stay where they are
                os.utime(found.path, ns=(moment, moment))
        finally:
            tree.remove(stage)
        fs.write_json(f"{self._where}/record.json", self._record)
        return found

    def _store(self, response: connections.Response, path: str, progress: Progress) -> str:
        buffer = memoryview(bytearray(_BLOCK))
        whole, total, done = hashlib.sha256(), response.length, 0
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(file, 0o600)
            while count := response.readinto(buffer):
                view = buffer[:count]
                whole.update(view)
                while view:
                    view = view[os.write(file, view) :]
                done += count
                progress(done, total or 0)
            if total is not None and done < total:
                raise registry_errors.Temporary(
                    registry_errors.Unreachable("the connection was cut in the middle of the file")
                )
            moment = _moment(response.headers.get("Last-Modified"))
            os.utime(file, (moment, moment))
        finally:
            os.close(file)
        return whole.hexdigest()

    def _check(self) -> None:
        if self._wanted is None:
            return
        algorithm, wanted = self._wanted
        if algorithm not in self._record:  # it was not sent again, and is known by another algorithm
            with open(f"{self._where}/{self._record['sha256']}/{self._name}", "rb") as file:
                self._record[algorithm] = hashlib.file_digest(file, algorithm).hexdigest()
            fs.write_json(f"{self._where}/record.json", self._record)
        found = self._record[algorithm]
        if found != wanted:
            raise errors.BuildError(
                f"`{shown(self._url)}` is not what its checksum says: {algorithm}:{found}",
                hint=f"--checksum={algorithm}:{found}, if that is what it should be now",
            )


def shown(url: str) -> str:
    """Without a password."""
    parts = urllib.parse.urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:xxxxx@{parts.netloc.rpartition('@')[2]}").geturl()


def _parsed(url: str) -> addresses.Url:
    parts = urllib.parse.urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    try:
        return addresses.parse(urllib.parse.quote(plain, safe="%/:=&?~#+!$,;'@()*[]"))
    except registry_errors.Untrustworthy as exc:
        raise errors.BuildError(f"`{shown(url)}` is no address") from exc


def _checksum(text: str) -> tuple[str, str]:
    found = _CHECKSUM.fullmatch(text)
    if found is None:
        raise errors.BuildError(f"`--checksum={text}` is no checksum", hint="sha256: and 64 digits in lower case")
    algorithm, digits = filter(None, found.groups())
    return algorithm, digits


def _versions(response: connections.Response) -> dict[str, str]:
    """What to ask with the next time. A date tells versions apart only if it was past when it was told: RFC 9110,
    8.8.2.2."""
    found = {}
    if etag := response.headers.get("ETag"):
        found["etag"] = etag
    modified = response.headers.get("Last-Modified")
    if modified and 0 < _moment(modified) <= _moment(response.headers.get("Date")) - _SETTLED:
        found["modified"] = modified
    return found


def _moment(text: str | None) -> float:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    return 0.0
