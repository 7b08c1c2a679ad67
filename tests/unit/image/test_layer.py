from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import threading
import zlib

import pytest

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
    ],
    ids=["plain", "gzip", "members", "padded", "empty member"],
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
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00aaaa", "xz"),
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
