"""What the user wrote after ``image:``, taken apart exactly as Docker takes it apart.

    redis                              docker.io/library/redis:latest
    ghcr.io/x/y:1@sha256:…             registry, repository, tag and digest
    oci:DIR[:NAME] oci:DIR@sha256:…    an image layout folder, and which of its images
    oci-archive:FILE[:NAME]            the same as one tar file
    docker-archive:FILE[:NAME]         what ``docker save`` writes
    rootfs:DIR                         a folder that is a root filesystem
    host:                              this machine's own operating system

The grammar is that of github.com/distribution/reference: the first path component is a registry if it holds a dot or
a colon, is ``localhost``, or has an upper-case letter. Nothing here looks at the disk.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from devenv import errors

DEFAULT_REGISTRY = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255  # of a repository
TEXT_LIMIT = 4096 + 512  # a path and a name; nothing longer is looked at by a regular expression


class Transport(StrEnum):
    REGISTRY = "docker"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    ROOTFS = "rootfs"
    HOST = "host"


class Reference(NamedTuple):
    """``path`` and ``name`` are for the transports that read the disk, the rest for registries."""

    transport: Transport
    path: str = ""
    name: str = ""  # which image in a layout or archive; "" is the only one
    registry: str = ""
    repository: str = ""
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """The whole reference with nothing left to defaults."""
        if self.transport is Transport.HOST:
            return "host:"
        if self.transport is not Transport.REGISTRY:
            selector = f"@{self.digest}" if self.digest else f":{self.name}" if self.name else ""
            return f"{self.transport}:{self.path}{selector}"
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def familiar(self) -> str:
        """As people write it: without ``docker.io/library/``."""
        if self.transport is not Transport.REGISTRY or self.registry != DEFAULT_REGISTRY:
            return str(self)
        text = str(self).removeprefix(f"{DEFAULT_REGISTRY}/")
        # `library/a/b` without its first part would be another repository.
        if self.repository.count("/") == 1:
            text = text.removeprefix(f"{DEFAULT_NAMESPACE}/")
        # So would `oci:latest`: a transport and a path.
        return str(self) if text.partition(":")[0] in set(Transport) else text


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?", re.ASCII)
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})", re.ASCII)
_BARE_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """Raises ``ImageError`` that says which part is wrong."""
    if len(text) > TEXT_LIMIT:
        raise errors.ImageError(f"image reference `{text[:60]}…` is too long")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise errors.ImageError(f"image reference {text!r} holds a control character")
    if not text or text != text.strip():
        raise errors.ImageError(f"image reference `{text}` is empty or has spaces around it")
    transport, colon, rest = text.partition(":")
    if colon:
        if transport == Transport.HOST:
            return _host(text, rest)
        if transport == Transport.ROOTFS:
            return Reference(Transport.ROOTFS, path=_path(text, rest))
        if transport in {Transport.OCI, Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE}:
            return _on_disk(text, Transport(transport), rest)
        if transport == Transport.REGISTRY and rest.startswith("//"):
            text = rest[2:]
    return _registry(text)


def _host(text: str, rest: str) -> Reference:
    if rest:
        raise errors.ImageError(
            f"image reference `{text}`: nothing follows `host:`",
            hint=f"for the image of that name in a registry write `docker.io/library/{text}`",
        )
    return Reference(Transport.HOST)


def _path(text: str, path: str) -> str:
    if not path:
        raise errors.ImageError(f"image reference `{text}` names no path")
    return path


def _on_disk(text: str, transport: Transport, rest: str) -> Reference:
    """A colon ends the path, as containers/image has it; the name after it may hold more of them."""
    path, at, digest = rest.rpartition("@")
    if at and _DIGEST.fullmatch(digest):
        return Reference(transport, path=_path(text, path), digest=digest)
    path, colon, name = rest.partition(":")
    if colon and not name:
        raise errors.ImageError(f"image reference `{text}` ends in a colon")
    return Reference(transport, path=_path(text, path), name=name)


def _registry(text: str) -> Reference:
    if _BARE_ID.fullmatch(text):
        raise errors.ImageError(
            f"`{text}` could be an image's id", hint=f"for an image of that name write `{text}:latest`"
        )
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise errors.ImageError(
            f"image reference `{text}`: `{digest}` is no digest",
            hint="a digest is `sha256:` and 64 hexadecimal digits in lower case",
        )
    first, slash, remainder = rest.partition("/")
    if slash and (set(first) & {".", ":"} or first == "localhost" or first != first.lower()):
        registry, path = first, remainder
    else:
        registry, path = DEFAULT_REGISTRY, rest
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    repository, colon, tag = path.partition(":")
    if not _DOMAIN.fullmatch(registry):
        raise errors.ImageError(f"image reference `{text}`: `{registry}` is no registry's name")
    if colon and not _TAG.fullmatch(tag):
        raise errors.ImageError(
            f"image reference `{text}`: `{tag}` is no tag",
            hint="a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with a letter, digit or `_`",
        )
    if not _REPOSITORY.fullmatch(repository):
        raise errors.ImageError(f"image reference `{text}`: `{repository}` is no repository", hint=_mend(repository))
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"{DEFAULT_NAMESPACE}/{repository}"
    if len(repository) > NAME_LIMIT:
        raise errors.ImageError(f"image reference `{text}`: a repository has up to {NAME_LIMIT} characters")
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(Transport.REGISTRY, registry=registry, repository=repository, tag=tag, digest=digest)


def _mend(repository: str) -> str:
    if repository.lower() != repository and _REPOSITORY.fullmatch(repository.lower()):
        return f"repositories are in lower case: `{repository.lower()}`"
    return "a repository has lower-case letters and digits, separated by `.`, `_`, `__`, `-` or `/`"
