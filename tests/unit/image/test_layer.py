from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import pathlib
import threading
import zlib
from collections.abc import Callable

import pytest
import zstandard

from devenv import errors
from devenv.image import content, layer, source

PLAIN = os.urandom(100_000) + b"\0" * 900_000


def wanted(path: pathlib.Path, data: bytes, plain: bytes = PLAIN, **more: object) -> content.Layer:
    path.write_bytes(data)
    found = content.Layer(
        source.File(str(path)),
        "sha256:" + hashlib.sha256(plain).hexdigest(),
        "sha256:" + hashlib.sha256(data).hexdigest(),
        len(data),
    )
    return found._replace(**more)  # type: ignore[arg-type]


def read(given: content.Layer, limits: layer.Limits = layer.LIMITS) -> bytes:
    with layer.Stream(given, limits) as stream:
        return b"".join(stream.chunks())


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        gzip.compress(PLAIN),
        gzip.compress(PLAIN[:5]) + gzip.compress(PLAIN[5:]),
        gzip.compress(PLAIN) + b"\0" * 1000,
        gzip.compress(PLAIN) + gzip.compress(b""),
        zstandard.compress(PLAIN),
        zstandard.compress(PLAIN[:5]) + zstandard.compress(PLAIN[5:]),
        bz2.compress(PLAIN),
        bz2.compress(PLAIN[:5]) + bz2.compress(PLAIN[5:]) + b"\0" * 10,
        lzma.compress(PLAIN),
        lzma.compress(PLAIN[:5]) + lzma.compress(PLAIN[5:]),
    ],
    ids=[
        "plain",
        "gzip",
        "members",
        "padded",
        "empty member",
        "zstd",
        "zstd frames",
        "bzip2",
        "bzip2 streams",
        "xz",
        "xz streams",
    ],
)
def test_what_is_read(tmp_path: pathlib.Path, data: bytes) -> None:
    assert read(wanted(tmp_path / "l", data)) == PLAIN


def test_members_at_every_cut_of_a_chunk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "CHUNK", 64)
    plain = b"abc" * 100
    for size in range(1, 60):
        first = gzip.compress(os.urandom(size))
        data = first + gzip.compress(plain)
        assert read(wanted(tmp_path / "l", data, gzip.decompress(first) + plain)).endswith(plain)


class Trickle:
    """A download that comes byte by byte."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def open(self) -> Trickle:
        return Trickle(self._data)

    def read(self, size: int, /) -> bytes:
        self._position += 1
        return self._data[self._position - 1 : self._position]

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_what_comes_in_the_smallest_pieces(compress: Callable[[bytes], bytes]) -> None:
    plain = os.urandom(100)
    data = compress(plain) + (compress(plain) if compress is not bytes else b"")
    got = read(content.Layer(Trickle(data), layer.ANY))
    assert got == plain * (1 if compress is bytes else 2)


def test_an_empty_layer(tmp_path: pathlib.Path) -> None:
    assert read(wanted(tmp_path / "l", b"", b"")) == b""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(PLAIN)[:-1], "truncated"),
        (gzip.compress(PLAIN)[:20000], "truncated"),
        (gzip.compress(PLAIN) + b"garbage", "something else behind"),
        (gzip.compress(PLAIN)[:-8] + b"\1" * 8, "broken gzip"),
        (b"\x1f\x8b" + b"x" * 100, "broken gzip"),
        (b"BZh91AY", "truncated bzip2"),
        (b"BZh9xxxxxxxxxxx", "broken bzip2"),
        (bz2.compress(PLAIN)[:-9], "truncated bzip2"),
        (bz2.compress(PLAIN) + b"garbage", "broken bzip2"),
        (b"\xfd7zXZ\x00aaaaaaaaaaa", "broken xz"),
        (lzma.compress(PLAIN)[:-9], "truncated xz"),
        (lzma.compress(PLAIN) + b"garbage", "truncated xz|broken xz"),
        (zstandard.compress(PLAIN)[:-9], "truncated zstd|broken zstd|unpacks to"),
        (zstandard.compress(PLAIN) + b"garbage", "broken zstd|unpacks to"),
        (layer.ZSTD + b"x" * 100, "broken zstd"),
        (b"\x04\x22\x4d\x18aaaaaa", "compressed with lz4"),
        (b"PK\x03\x04aaaaaa", "compressed with zip"),
        (zlib.compress(PLAIN), "unpacks to sha256:"),
    ],
)
def test_what_is_refused(tmp_path: pathlib.Path, data: bytes, message: str) -> None:
    with pytest.raises(layer.LayerError, match=message):
        read(wanted(tmp_path / "l", data))
    assert threading.active_count() == 1


def test_lies(tmp_path: pathlib.Path) -> None:
    good = wanted(tmp_path / "l", gzip.compress(PLAIN))
    other = "sha256:" + "0" * 64
    assert good.size
    for bad, message in (
        (good._replace(digest=other), "has the digest"),
        (good._replace(size=good.size - 1), "has more than"),
        (good._replace(size=good.size + 1), "its descriptor says"),
        (good._replace(diff_id=other), "unpacks to"),
    ):
        with pytest.raises(layer.LayerError, match=message):
            read(bad)


def test_a_window_of_gigabytes(tmp_path: pathlib.Path) -> None:
    """zstd lets the sender choose how much memory the reader takes: here 2 GiB, for an empty frame."""
    with pytest.raises(layer.LayerError, match="broken zstd"):
        read(wanted(tmp_path / "l", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", b""))


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_bombs_of_every_kind(tmp_path: pathlib.Path, compress: Callable[[bytes], bytes]) -> None:
    plain = b"\0" * (8 << 20)
    given = wanted(tmp_path / "l", compress(plain), plain)
    with pytest.raises(layer.LayerError, match="400 times its size"):
        read(given, layer.Limits(free_size=1 << 20))


def test_bombs(tmp_path: pathlib.Path) -> None:
    plain = b"\0" * (8 << 20)
    given = wanted(tmp_path / "l", gzip.compress(plain), plain)
    assert len(read(given)) == len(plain)
    with pytest.raises(layer.LayerError, match="400 times its size"):
        read(given, layer.Limits(free_size=1 << 20))
    with pytest.raises(layer.LayerError, match="expands to more than 1048576 bytes"):
        read(given, layer.Limits(size=1 << 20))


def test_who_stops_reading_leaves_nothing(tmp_path: pathlib.Path) -> None:
    plain = os.urandom(layer.CHUNK) * 40
    given = wanted(tmp_path / "l", plain, plain)
    descriptors = os.listdir("/proc/self/fd")
    with layer.Stream(given) as stream:
        next(stream.chunks())
    assert threading.active_count() == 1
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


def test_only_regular_files(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(layer.LayerError, match="not a regular file"):
        read(content.Layer(source.File(str(tmp_path / "fifo")), ""))
    with pytest.raises(FileNotFoundError):
        read(content.Layer(source.File(str(tmp_path / "nothing")), ""))


def test_zstd_without_a_library_says_what_to_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(layer.importlib, "import_module", missing)
    with pytest.raises(errors.ImageError, match="zstd") as caught:
        read(wanted(tmp_path / "l", layer.ZSTD + b"x" * 100))
    assert "pip install zstandard" in str(caught.value.hint)
