"""Small images made in pure Python, so that every machine has some to test with.

    write_layout(path, layers=[{"etc/motd": "hello\\n", "bin/sh": link("busybox")}], config={"Cmd": ["sh"]})

A layer maps paths to content: text or bytes for a file, or a ``file``, ``folder``, ``link``, ``hardlink`` or ``node``.
``None`` is a whiteout, a path that ends in ``/.wh..wh..opq`` an opaque folder. Parents are not added by themselves. A
layer may also be the bytes of a tar stream, for what no tar program would write.

``busybox_layout(path)`` holds Debian's static busybox and links for its commands: an image that really runs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import struct
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

BUSYBOX = "/bin/busybox"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Spec(NamedTuple):
    kind: bytes = b"0"
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 1_600_000_000
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = {}
    pax: Mapping[str, bytes] = {}


Layer = Mapping[str, "Spec | str | bytes | None"] | bytes


def file(content: str | bytes = b"", **more: Any) -> Spec:
    return Spec(content=content.encode() if isinstance(content, str) else content, **more)


def folder(mode: int = 0o755, **more: Any) -> Spec:
    return Spec(kind=b"5", mode=mode, **more)


def link(target: str, **more: Any) -> Spec:
    return Spec(kind=b"2", link=os.fsencode(target), mode=0o777, **more)


def hardlink(target: str) -> Spec:
    return Spec(kind=b"1", link=os.fsencode(target))


def node(kind: str, major: int = 0, minor: int = 0, **more: Any) -> Spec:
    """``kind`` is c, b or p."""
    return Spec(kind={"c": b"3", "b": b"4", "p": b"6"}[kind], major=major, minor=minor, **more)


# -- tar ------------------------------------------------------------------------------------------------------------


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_600_000_000,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    magic: bytes = b"ustar\x0000",
    checksum: bytes | None = None,
) -> bytes:
    """One block. Bytes in place of a number are written as they are."""

    def number(value: int | bytes, width: int) -> bytes:
        return value.ljust(width, b"\0") if isinstance(value, bytes) else octal(value, width)

    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        name,
        number(mode, 8),
        number(uid, 8),
        number(gid, 8),
        number(size, 12),
        number(mtime, 12),
        b" " * 8,
        kind,
        link,
        magic,
        b"",
        b"",
        octal(major, 8),
        octal(minor, 8),
        b"",
    )
    total = checksum if checksum is not None else b"%06o\0 " % sum(block)
    return block[:148] + total + block[156:]


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


def pax_record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    digits = len(str(size + len(str(size))))
    return b"%d %s=%s\n" % (size + digits, key, value)


def pax_header(records: Mapping[str, bytes], *, kind: bytes = b"x") -> bytes:
    data = b"".join(pax_record(key.encode("utf-8", "surrogateescape"), value) for key, value in records.items())
    return header(b"PaxHeaders/x", kind, size=len(data)) + padded(data)


def entry(name: str | bytes, spec: Spec) -> bytes:
    raw = os.fsencode(name)
    records = dict(spec.pax)
    if len(raw) > 100:
        records.setdefault("path", raw)
    if len(spec.link) > 100:
        records.setdefault("linkpath", spec.link)
    if spec.mtime != int(spec.mtime):
        records.setdefault("mtime", f"{spec.mtime:.9f}".encode())
    for field in ("uid", "gid"):
        if getattr(spec, field) > 0o7777777:
            records.setdefault(field, str(getattr(spec, field)).encode())
    records.update({f"SCHILY.xattr.{key}": value for key, value in spec.xattrs.items()})
    block = header(
        raw[:100],
        spec.kind,
        size=len(spec.content),
        mode=spec.mode,
        uid=0 if "uid" in records else spec.uid,
        gid=0 if "gid" in records else spec.gid,
        mtime=int(spec.mtime),
        link=spec.link[:100],
        major=spec.major,
        minor=spec.minor,
    )
    return (pax_header(records) if records else b"") + block + padded(spec.content)


def tar(layer: Layer) -> bytes:
    if isinstance(layer, bytes):
        return layer
    return b"".join(_entry_of(name, spec) for name, spec in layer.items()) + b"\0" * 1024


def _entry_of(name: str, spec: Spec | str | bytes | None) -> bytes:
    if spec is None:
        parent, _, last = name.rpartition("/")
        return entry(f"{parent}/.wh.{last}" if parent else f".wh.{last}", file())
    if isinstance(spec, (str, bytes)):
        return entry(name, file(spec))
    return entry(name, spec)


# -- layouts ----------------------------------------------------------------------------------------------------------


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def architecture() -> str:
    return ARCHITECTURES.get(platform.machine(), platform.machine())


class Writer:
    """A layout that grows blob by blob, for images that ``write_layout`` doesn't make."""

    def __init__(self, path: pathlib.Path | str) -> None:
        self.path = pathlib.Path(path)
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        found = digest(data)
        (self.path / "blobs" / "sha256" / found.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": found, "size": len(data), **more}

    def json(self, value: Any, media_type: str, **more: Any) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def image(
        self,
        layers: Sequence[Layer],
        config: Mapping[str, Any] | None = None,
        *,
        compress: str = "gzip",
        arch: str | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The descriptor of its manifest."""
        streams = [tar(layer) for layer in layers]
        blobs = [gzip.compress(stream, 1, mtime=0) if compress == "gzip" else stream for stream in streams]
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress == "gzip" else "")
        own = {
            "architecture": arch or architecture(),
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [digest(stream) for stream in streams]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.json(own, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(blob, kind) for blob in blobs],
        }
        return self.json(manifest, manifest["mediaType"], **more)

    def index(self, manifests: Sequence[Mapping[str, Any]], **more: Any) -> None:
        value = {"schemaVersion": 2, "manifests": list(manifests), **more}
        (self.path / "index.json").write_text(json.dumps(value))


def write_layout(
    path: pathlib.Path | str,
    *,
    layers: Sequence[Layer],
    config: Mapping[str, Any] | None = None,
    ref: str = "latest",
    compress: str = "gzip",
) -> str:
    """An image layout with one image called ``ref``; returns the digest of its manifest."""
    writer = Writer(path)
    named = {"org.opencontainers.image.ref.name": ref}
    manifest = writer.image(layers, config, compress=compress, annotations=named)
    writer.index([manifest])
    return str(manifest["digest"])


def busybox_layout(path: pathlib.Path | str, *, config: Mapping[str, Any] | None = None, ref: str = "latest") -> str:
    """busybox with links for all its commands, a few users, and the usual folders."""
    commands = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    folders = {name: folder() for name in ("bin", "etc", "home", "usr", "usr/bin", "var", "var/lib", "run", "srv")}
    base: dict[str, Spec | str | bytes | None] = {
        **folders,
        "root": folder(0o700),
        "tmp": folder(0o1777),
        "var/tmp": folder(0o1777),
        "bin/busybox": file(pathlib.Path(BUSYBOX).read_bytes(), mode=0o755),
        **{f"bin/{name}": link("busybox") for name in commands if name != "busybox"},
    }
    users: dict[str, Spec | str | bytes | None] = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        "etc/group": "root:x:0:\nwww:x:33:\nextra:x:44:www\nnogroup:x:65534:\n",
        "srv": folder(0o755, uid=33, gid=33),
        "srv/index.html": file("it works\n", uid=33, gid=33),
    }
    chosen = {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"], **(config or {})}
    return write_layout(path, layers=[base, users], config=chosen, ref=ref)


def docker_archive(path: pathlib.Path | str, *, layers: Sequence[Layer], tags: Sequence[str], **config: Any) -> None:
    """What `docker save` wrote before it wrote image layouts."""
    streams = [tar(layer) for layer in layers]
    own = {
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(stream) for stream in streams]},
    }
    names = [f"{number}/layer.tar" for number in range(len(streams))]
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]
    out = io.BytesIO()
    for name, data in zip(names, streams, strict=True):
        out.write(entry(name, file(data)))
    out.write(entry("config.json", file(json.dumps(own))))
    out.write(entry("manifest.json", file(json.dumps(manifest))))
    out.write(b"\0" * 1024)
    pathlib.Path(path).write_bytes(out.getvalue())
