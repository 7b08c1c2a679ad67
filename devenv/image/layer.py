"""The tar stream of a layer's file: decompressed and hashed in a thread beside the one that unpacks it.

zlib and hashlib let other threads run, so unpacking costs little more than the slower of the two. What a file is
compressed with is told by its first bytes, as all tools do; the media type is only a hint. Memory is bounded whatever
the stream expands to, and so is what it may expand to.
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import importlib
import lzma
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import content, source

CHUNK = 256 << 10  # larger ones fall out of the processor's cache
AHEAD = 8  # chunks that may wait

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
MAGIC_SIZE = 6
BZIP2, XZ = (
    b"BZh",
    b"\xfd7zXZ\x00",
)  # not for layers by the OCI's letter, but Docker takes them, and old archives have them
_OTHERS = {b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress", b"PK\x03\x04": "zip"}
ANY = ""  # a diff_id that nobody knows: an archive's, whose parts are verified
XZ_MEMORY = 256 << 20  # `xz -9` needs 65 MB
ZSTD_WINDOW = 27  # log2: what `zstd -d` allows without being asked for more


class Limits(NamedTuple):
    """What a layer may expand to. Real ones stay far below; a bomb needs gzip's 1032 to 1, or zstd's millions."""

    entries: int = 4_000_000
    size: int = 1 << 40
    ratio: int = 400
    free_size: int = 1 << 30  # below this any ratio goes: a file of zeros is nothing bad


LIMITS = Limits()
LayerError = source.LayerError


class _Hashed:
    """A file that counts what is read of it, and hashes it if there is a digest to compare with."""

    def __init__(self, reader: source.Reader, layer: content.Layer) -> None:
        self._reader = reader
        self._layer = layer
        self._hash = hashlib.sha256() if layer.digest is not None else None
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._reader.read(CHUNK if size < 0 else size)
        self.size += len(data)
        wanted = self._layer.size
        if wanted is not None and self.size > wanted:
            raise LayerError(f"has more than the {wanted} bytes that its descriptor says")
        if self._hash is not None:
            self._hash.update(data)
        return data

    def readable(self) -> bool:
        return True

    def check(self) -> None:
        while self.read():  # to the end, whatever the decompressor left
            pass
        wanted = self._layer.size
        if wanted is not None and self.size != wanted:
            raise LayerError(f"has {self.size} bytes, its descriptor says {wanted}")
        if self._hash is not None and (digest := "sha256:" + self._hash.hexdigest()) != self._layer.digest:
            raise LayerError(f"has the digest {digest}")


class Stream:
    """``with Stream(layer) as stream: use(stream.chunks())``. Only when all chunks are read is the layer proven."""

    def __init__(self, layer: content.Layer, limits: Limits = LIMITS) -> None:
        self._layer = layer
        self._limits = limits
        self._reader: source.Reader
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="layer", daemon=True)

    def __enter__(self) -> Stream:
        self._reader = self._layer.source.open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._reader.interrupt()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                pass
        self._thread.join()
        self._reader.close()

    def chunks(self) -> Iterator[bytes]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    # -- in the other thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._pump()
        except Exception as exc:  # noqa: BLE001 - it is raised again by chunks()
            self._queue.put(exc)
        else:
            self._queue.put(None)

    def _pump(self) -> None:
        compressed = _Hashed(self._reader, self._layer)
        head = _at_least(compressed, b"", MAGIC_SIZE)
        # What isn't compressed has one digest: hashing it once will do.
        plain = hashlib.sha256() if is_compressed(head) or self._layer.digest is None else None
        total = 0
        for chunk in _decompress(compressed, head):
            if self._stopped.is_set():
                return
            total += len(chunk)
            self._check_size(total, compressed.size)
            if plain is not None:
                plain.update(chunk)
            self._queue.put(chunk)
        compressed.check()
        digest = self._layer.digest if plain is None else "sha256:" + plain.hexdigest()
        if self._layer.diff_id not in {ANY, digest}:
            raise LayerError(f"unpacks to {digest}, the image's config says {self._layer.diff_id}")

    def _check_size(self, total: int, read: int) -> None:
        if total > self._limits.size:
            raise LayerError(f"expands to more than {self._limits.size} bytes")
        if total > self._limits.free_size and total > read * self._limits.ratio:
            raise LayerError(f"expands to more than {self._limits.ratio} times its size")


def is_compressed(head: bytes) -> bool:
    return head.startswith((GZIP, ZSTD, BZIP2, XZ, *_OTHERS))


def _decompress(file: _Hashed, head: bytes) -> Iterator[bytes]:
    if head.startswith(GZIP):
        return _gunzip(file, head)
    if head.startswith(ZSTD):
        return _unzstd(file, head)
    if head.startswith(BZIP2):
        return _expand(file, head, bz2.BZ2Decompressor, "bzip2")
    if head.startswith(XZ):
        return _expand(file, head, functools.partial(lzma.LZMADecompressor, memlimit=XZ_MEMORY), "xz")
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise LayerError(f"is compressed with {name}, which image layers must not be")
    return _plain(file, head)


def _at_least(file: _Hashed, data: bytes, size: int) -> bytes:
    """What follows a download comes in whatever pieces the network makes."""
    while len(data) < size and (more := file.read(CHUNK)):
        data += more
    return data


def _plain(file: _Hashed, data: bytes) -> Iterator[bytes]:
    while data:
        yield data
        data = file.read(CHUNK)


def _inflater() -> Any:
    """isal is twice as fast, where somebody has installed it."""
    try:
        return importlib.import_module("isal.isal_zlib").decompressobj(31)
    except ImportError:
        return zlib.decompressobj(31)


def _gunzip(file: _Hashed, data: bytes) -> Iterator[bytes]:
    inflater = _inflater()
    while True:
        try:
            out = inflater.decompress(data, CHUNK)
        except Exception as exc:  # isal has an error class of its own
            raise LayerError(f"is broken gzip: {exc}") from exc
        if out:
            yield out
        data = inflater.unconsumed_tail
        if inflater.eof:
            # gzip members may follow each other (RFC 1952); zeros are padding of tapes.
            data = _at_least(file, inflater.unused_data, len(GZIP))
            if not data.strip(b"\0"):
                return
            if not data.startswith(GZIP):
                raise LayerError("has something else behind its gzip stream")
            inflater = _inflater()
        elif not data:
            data = file.read(CHUNK)
            if not data and not out:
                raise LayerError("is a truncated gzip stream")


def _expand(file: _Hashed, data: bytes, make: Callable[[], Any], name: str) -> Iterator[bytes]:
    decompressor = make()
    while True:
        try:
            out = decompressor.decompress(data, CHUNK)
        except (OSError, ValueError, lzma.LZMAError) as exc:
            raise LayerError(f"is broken {name}: {exc}") from exc
        if out:
            yield out
        data = b""
        if decompressor.eof:
            data = _at_least(file, decompressor.unused_data, 1)
            if not data.strip(b"\0"):
                return
            decompressor = make()
        elif decompressor.needs_input:
            data = file.read(CHUNK)
            if not data:
                raise LayerError(f"is a truncated {name} stream")


class _Prefixed:
    """A file again, after its head was looked at."""

    def __init__(self, head: bytes, file: _Hashed) -> None:
        self._head = head
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if self._head:
            data, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
            return data
        return self._file.read(size)

    def readable(self) -> bool:
        return True


def _unzstd(file: _Hashed, head: bytes) -> Iterator[bytes]:
    reader = _zstd_reader(_Prefixed(head, file))
    while True:
        try:
            out = reader.read(CHUNK)
        except (LayerError, OSError):
            raise
        except Exception as exc:  # each library has an error class of its own
            raise LayerError(f"is broken zstd: {exc}") from exc
        if not out:
            return
        yield out


def _zstd_reader(file: _Prefixed) -> Any:
    try:
        module: Any = importlib.import_module("compression.zstd")  # from Python 3.14
    except ImportError:
        pass
    else:
        return module.ZstdFile(file, options={module.DecompressionParameter.window_log_max: ZSTD_WINDOW})
    try:
        module = importlib.import_module("zstandard")
    except ImportError:
        raise errors.ImageError(
            "the image has layers compressed with zstd, which this Python can't read",
            hint="pip install zstandard, or convert it: skopeo copy --dest-compress-format gzip oci:DIR oci:OTHER",
        ) from None
    decompressor = module.ZstdDecompressor(max_window_size=1 << ZSTD_WINDOW)
    return decompressor.stream_reader(file, read_size=CHUNK, read_across_frames=True)
