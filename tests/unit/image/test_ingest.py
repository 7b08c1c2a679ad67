"""Blobs on their way into the store: what breaks off goes on, what lies is dropped, who reads sees no false end."""

from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import threading
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.image import blobs, content, descriptor, ingest, layer, lease, snapshot
from devenv.util import paths
from tests import ocilayout

DATA = os.urandom(3 << 20)


@pytest.fixture
def held(where: paths.Paths) -> Iterator[lease.Lease]:
    with lease.Lease(where) as made:
        yield made


@pytest.fixture
def store(where: paths.Paths) -> blobs.BlobStore:
    return blobs.BlobStore(where)


def described(data: bytes) -> descriptor.Descriptor:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return descriptor.Descriptor("application/vnd.oci.image.layer.v1.tar", digest, len(data))


Begin = Callable[..., ingest.Ingest]


@pytest.fixture
def begin(store: blobs.BlobStore, held: lease.Lease) -> Begin:
    def ask(data: bytes = DATA, waiting: Callable[[], None] | None = None) -> ingest.Ingest:
        return store.ingest(described(data), held=held, what="image `x`", waiting=waiting)

    return ask


def transfer(arriving: ingest.Ingest, *pieces: bytes, error: Exception | None = None) -> None:
    with arriving:
        for piece in pieces:
            arriving.write(piece)
        if error is not None:
            raise error
        arriving.commit()


def left(where: paths.Paths) -> list[str]:
    return [name for folder in ("ingest", "blobs/sha256") for name in os.listdir(f"{where.data}/{folder}")]


def test_a_blob_arrives(store: blobs.BlobStore, where: paths.Paths, begin: Begin) -> None:
    wanted = described(DATA)
    assert not store.has(wanted)
    with begin() as arriving:
        assert (arriving.offset, arriving.complete) == (0, False)
        for start in range(0, len(DATA), 100_000):
            arriving.write(DATA[start : start + 100_000])
            assert not store.has(wanted)
        arriving.commit()
    assert store.has(wanted)
    assert pathlib.Path(store.path(wanted)).read_bytes() == DATA
    assert left(where) == [wanted.hex]
    with begin() as again:
        assert again.complete
        assert again.offset == len(DATA)
    assert left(where) == [wanted.hex]


def test_what_broke_off_goes_on(store: blobs.BlobStore, begin: Begin) -> None:
    with pytest.raises(ConnectionError):
        transfer(begin(), DATA[:1_500_000], error=ConnectionError())
    assert not store.has(described(DATA))
    with begin() as arriving:
        assert arriving.offset == 1_500_000
        arriving.write(DATA[1_500_000:])
        arriving.commit()
    assert store.has(arriving.descriptor)


def test_what_lies_is_dropped(where: paths.Paths, begin: Begin) -> None:
    with pytest.raises(ingest.Mismatch, match="what arrived has the digest"):
        transfer(begin(), b"x" * len(DATA))
    assert left(where) == []
    with pytest.raises(ingest.Mismatch, match="it has more than"):
        transfer(begin(), DATA, b"x")
    assert left(where) == []
    with pytest.raises(errors.ImageError, match=f"it ends after 5 of {len(DATA)} bytes"):
        transfer(begin(), DATA[:5])
    with begin() as arriving:
        assert arriving.offset == 5


def test_a_partial_longer_than_the_blob_is_begun_again(where: paths.Paths, begin: Begin) -> None:
    wanted = described(DATA)
    os.makedirs(f"{where.data}/ingest")
    pathlib.Path(f"{where.data}/ingest/{wanted.hex}").write_bytes(DATA + b"more")
    with begin() as arriving:
        assert arriving.offset == 0
        arriving.write(DATA)
        arriving.commit()


def test_a_full_disk(begin: Begin) -> None:
    with begin() as arriving:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, arriving._fd)
        os.close(full)
        with pytest.raises(errors.ImageError, match="can't be kept: No space left") as caught:
            arriving.write(DATA)
        assert caught.value.hint is not None


def follow(arriving: ingest.Ingest) -> Callable[[], bytes | BaseException]:
    """Read to the end in a thread; call the result to wait for what came of it."""
    got: list[bytes | BaseException] = []

    def run() -> None:
        reader = arriving.open()
        parts = []
        try:
            while data := reader.read(70_000):
                parts.append(data)
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            got.append(exc)
        else:
            got.append(b"".join(parts))
        finally:
            reader.close()

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> bytes | BaseException:
        thread.join(60)
        return got[0]

    return result


def test_readers_follow(begin: Begin) -> None:
    arriving = begin()
    early = follow(arriving)
    with arriving:
        arriving.write(DATA[:1_000_000])
        late = follow(arriving)
        arriving.write(DATA[1_000_000:])
        arriving.commit()
    after = follow(arriving)
    with begin() as again:
        there = follow(again)
    assert early() == late() == after() == there() == DATA


def test_readers_never_see_an_end_that_is_not_one(begin: Begin) -> None:
    arriving = begin()
    result = follow(arriving)
    with pytest.raises(ingest.Mismatch):
        transfer(arriving, b"x" * len(DATA))
    assert isinstance(result(), ingest.Mismatch)
    assert isinstance(follow(arriving)(), ingest.Mismatch)


def test_whoever_is_cancelled_learns_why(begin: Begin) -> None:
    never = begin()
    result = follow(never)
    never.cancel(errors.ImageError("another layer failed"))
    assert str(result()) == "another layer failed"
    with pytest.raises(errors.ImageError, match="another layer failed"), never:
        pass
    with begin() as arriving:
        arriving.cancel(errors.ImageError("another"))
        with pytest.raises(errors.ImageError, match="another"):
            arriving.write(b"x")


def test_the_second_waits_for_the_first(begin: Begin) -> None:
    waits = threading.Event()
    seen = []

    def second() -> None:
        with begin(waiting=waits.set) as arriving:
            seen.append(arriving.complete)

    with begin() as first:
        first.write(DATA)
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        first.commit()
    thread.join(60)
    assert seen == [True]


def test_a_lock_ends_with_its_writer_not_its_readers(begin: Begin) -> None:
    with begin() as first:
        first.write(DATA[:10])
        reader = first.open()
        assert reader.read(100) == DATA[:10]
    with begin() as second:
        assert second.offset == 10
    reader.close()


def test_nothing_stays_open(begin: Begin) -> None:
    before = os.listdir("/proc/self/fd")
    with begin() as arriving:
        result = follow(arriving)
        arriving.write(DATA)
        arriving.commit()
    assert result() == DATA
    with begin():
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_is_put_is_checked(store: blobs.BlobStore, held: lease.Lease) -> None:
    wanted = described(b"{}")
    store.put(wanted, b"{}", held=held, what="x")
    assert store.read(wanted, what="x") == b"{}"
    with pytest.raises(errors.ImageError, match="has the digest"):
        store.put(wanted, b"[]", held=held, what="x")
    pathlib.Path(store.path(wanted)).write_bytes(b"[]")
    with pytest.raises(errors.ImageError, match="has the digest"):
        store.read(wanted, what="x")


# -- unpacking meanwhile ----------------------------------------------------------------------------------------------


def arriving_image(begin: Begin) -> tuple[content.Content, list[tuple[ingest.Ingest, bytes]]]:
    streams = [ocilayout.tar({"a": os.urandom(2 << 20)}), ocilayout.tar({"b": "b", "a": None})]
    packed = [gzip.compress(stream, 1) for stream in streams]
    arriving = [begin(data) for data in packed]
    layers = tuple(
        content.Layer(each, "sha256:" + hashlib.sha256(stream).hexdigest())
        for each, stream in zip(arriving, streams, strict=True)
    )
    image = content.Content("sha256:" + "0" * 64, content.image_config.ImageConfig(), layers)
    return image, list(zip(arriving, packed, strict=True))


def test_layers_unpack_while_they_arrive(
    store: blobs.BlobStore, where: paths.Paths, held: lease.Lease, begin: Begin
) -> None:
    image, transfers = arriving_image(begin)

    def send() -> None:  # the upper one first: the order in which they come doesn't matter
        for each, data in reversed(transfers):
            with each:
                for start in range(0, len(data), 1 << 18):
                    each.write(data[start : start + (1 << 18)])
                each.commit()

    thread = threading.Thread(target=send)
    thread.start()
    made = snapshot.prepare(where, image, held=held, what="x")
    thread.join(60)
    assert [sorted(os.listdir(each.folder)) for each in made] == [["a"], ["a", "b"]]
    assert all(store.has(each.descriptor) for each, _ in transfers)


def test_a_layer_is_not_there_before_its_blob_is_proven(where: paths.Paths, held: lease.Lease, begin: Begin) -> None:
    """The stream unpacks to the right thing, and one byte behind its end is wrong: the digest is, too."""
    image, [(first, data), _] = arriving_image(begin)

    def send() -> None:
        with pytest.raises(ingest.Mismatch):
            transfer(first, data, b"\0")

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(ingest.Mismatch):
        snapshot.prepare(where, image, held=held, what="x")
    thread.join(60)
    assert os.listdir(f"{where.data}/layers") == os.listdir(f"{where.data}/stage") == []


def test_a_refused_layer_does_not_wait_for_the_rest(where: paths.Paths, held: lease.Lease, begin: Begin) -> None:
    bad = ocilayout.tar({"../x": "x"}) + b"\0" * (1 << 20)
    arriving = begin(bad)
    image = content.Content(
        "sha256:" + "0" * 64, content.image_config.ImageConfig(), (content.Layer(arriving, layer.ANY),)
    )
    image = image._replace(layers=(image.layers[0]._replace(diff_id="sha256:" + "1" * 64),))
    with arriving:
        arriving.write(bad[: 600 << 10])
        with pytest.raises(errors.ImageError, match="leads out of the layer"):
            snapshot.prepare(where, image, held=held, what="x")
        assert not arriving.complete
    assert threading.active_count() == 1
