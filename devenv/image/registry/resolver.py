"""From a reference to a manifest: asked of mirrors first, then of the registry itself, and verified."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from devenv.image import content, descriptor, reference
from devenv.image.registry import addresses, errors, session

_ACCEPT = ", ".join(
    (descriptor.OCI_INDEX, descriptor.OCI_MANIFEST, descriptor.DOCKER_INDEX, descriptor.DOCKER_MANIFEST)
)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
# What servers say that know no better.
_VAGUE = {"", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream"}
_TAGS_LIMIT = 4 << 20
_TAGS_PAGES = 1000

Say = Callable[[str], None]


class Document(NamedTuple):
    """A manifest or an index, byte for byte as the registry sent it: its digest is right, what it says is unread."""

    descriptor: descriptor.Descriptor
    data: bytes


class Resolver:
    """``sessions`` are those of ``Hosts.endpoints``, the registry itself last."""

    def __init__(
        self, sessions: list[session.Session], wanted: reference.Reference, *, say: Say = lambda _: None
    ) -> None:
        self._sessions = sessions
        self._wanted = wanted
        self._say = say

    def head(self) -> str | None:
        """The digest that the tag has now, if the registry tells it without sending the manifest: at Docker Hub
        that does not count as a pull."""
        wanted = self._wanted

        def ask(each: session.Session) -> str | None:
            name = each.repository(wanted.repository)
            with self._asking(each, wanted.digest or wanted.tag) as (url, headers):
                response = each.request("HEAD", url, ok={200}, headers=headers, scopes=(_scope(name),))
            response.close()
            return response.headers.get("Docker-Content-Digest")

        digest = self._first(ask)
        return digest if digest and descriptor.is_digest(digest) else None

    def root(self) -> Document:
        """What the reference itself means: an index or a manifest."""
        return self.document(self._wanted.digest or self._wanted.tag, None)

    def document(self, name: str, expected: descriptor.Descriptor | None) -> Document:
        """By tag or digest. ``expected`` is the descriptor that led here."""
        if expected is not None and expected.size > descriptor.JSON_LIMIT:
            raise errors.Untrustworthy(f"{expected.digest} is larger than {descriptor.JSON_LIMIT} bytes")
        found: Document = self._first(lambda each: self._fetch(each, name, expected))
        return found

    def tags(self) -> list[str]:
        """All tags of the repository, from the registry itself."""
        each = self._sessions[-1]
        name = each.repository(self._wanted.repository)
        url = each.url(f"/v2/{name}/tags/list")
        found: list[str] = []
        for _ in range(_TAGS_PAGES):
            data, headers = each.document(url, limit=_TAGS_LIMIT, scopes=(_scope(name),))
            given = content.parse_json(data, what="its list of tags")
            link = headers.get("Link") or ""
            tags = given.get("tags")
            found += [tag for tag in tags or [] if isinstance(tag, str) and reference.is_tag(tag)]
            if 'rel="next"' not in link:
                break
            url = addresses.parse(link.partition("<")[2].partition(">")[0], url)
        return sorted(set(found))

    # -- asking -----------------------------------------------------------------------------------------------

    def _first(self, ask: Callable[[session.Session], Any]) -> Any:
        """The first host that has it. What the registry itself says is what counts in the end."""
        for each in self._sessions[:-1]:
            try:
                return ask(each)
            except errors.NotFound:
                continue
            except errors.RegistryError as exc:
                self._say(f"mirror `{each.endpoint.host}`: {exc.message}")
        return ask(self._sessions[-1])

    @contextlib.contextmanager
    def _asking(self, each: session.Session, name: str) -> Iterator[tuple[addresses.Url, Mapping[str, str]]]:
        repository = each.repository(self._wanted.repository)
        try:
            yield each.url(f"/v2/{repository}/manifests/{name}"), {"Accept": _ACCEPT}
        except errors.NotFound as exc:
            mark = "@" if ":" in name else ":"
            raise errors.NotFound(
                f"`{each.endpoint.host}` has no `{repository}{mark}{name}`",
                hint="check the name and the tag" if mark == ":" else "check the name and the digest",
            ) from exc

    def _fetch(self, each: session.Session, name: str, expected: descriptor.Descriptor | None) -> Document:
        scopes = (_scope(each.repository(self._wanted.repository)),)
        with self._asking(each, name) as (url, asked):
            data, headers = each.document(url, limit=descriptor.JSON_LIMIT, headers=asked, scopes=scopes)
        said = headers.get("Docker-Content-Digest") or ""
        kind = (headers.get("Content-Type") or "").partition(";")[0].strip()
        host = each.endpoint.host
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        wanted = expected.digest if expected else name if ":" in name else ""
        if wanted and wanted != digest:
            raise errors.Untrustworthy(f"`{host}` sends a manifest with the digest {digest} for {wanted}")
        if said.startswith("sha256:") and said != digest:
            raise errors.Untrustworthy(f"`{host}` calls a manifest {said} whose digest is {digest}")
        value = content.parse_json(data, what=f"the manifest that `{host}` sends")
        found = descriptor.Descriptor(_media_type(value, kind, expected, host), digest, len(data))
        if expected is not None and expected.size != len(data):
            raise errors.Untrustworthy(f"{digest} has {len(data)} bytes, its descriptor says {expected.size}")
        return Document(found, data)


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def _media_type(value: Mapping[str, Any], sent: str, expected: descriptor.Descriptor | None, host: str) -> str:
    own = value.get("mediaType")
    if sent.startswith(_SCHEMA_1) or value.get("schemaVersion") == 1:
        raise errors.RegistryError(
            f"`{host}` has it only as an image of the old schema 1, which nobody can verify",
            hint="push it again with a tool of this decade",
        )
    claims = {kind for kind in (own, "" if sent in _VAGUE else sent, expected.media_type if expected else "") if kind}
    if len(claims) > 1:
        told = ", ".join(f"`{str(kind)[:100]}`" for kind in sorted(map(str, claims)))
        raise errors.Untrustworthy(f"`{host}` says different things of what it sends: {told}")
    if claims:
        return str(claims.pop())
    # Only a manifest without a type of its own, sent as just any JSON, comes here.
    return descriptor.OCI_INDEX if "manifests" in value else descriptor.OCI_MANIFEST
