"""What nobody thought of: readers of foreign bytes end in their own error or in a result that keeps its promises."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pathlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from devenv import errors
from devenv.image import content, descriptor, docker_archive, files, layer, manifest, reference, tar, unpack
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout
from tests.unit.image import unpacking

# The same examples every time: what a test says must not depend on luck. DEVENV_FUZZ=5000 looks for new ones.
EXAMPLES = int(os.environ.get("DEVENV_FUZZ", "0"))
hypothesis.settings.register_profile(
    "here", derandomize=not EXAMPLES, deadline=None, database=None, max_examples=EXAMPLES or 40
)
hypothesis.settings.load_profile("here")

# -- tar --------------------------------------------------------------------------------------------------------------

PARTS = st.text("ab é.\n-", min_size=1, max_size=60).filter(lambda text: set(text) > {"."})
NAMES = st.lists(PARTS, min_size=1, max_size=6).map("/".join)


@st.composite
def archives(draw: st.DrawFn) -> tuple[bytes, list[tarfile.TarInfo]]:
    """As Python's own tarfile writes them."""
    out = io.BytesIO()
    kinds = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    entries = []
    form = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for _ in range(draw(st.integers(0, 4))):
            entry = tarfile.TarInfo(draw(NAMES))
            entry.type = draw(st.sampled_from(kinds))
            data = draw(st.binary(max_size=1500)) if entry.type == tarfile.REGTYPE else b""
            entry.size = len(data)
            entry.mode = draw(st.integers(0, 0o7777))
            entry.uid, entry.gid = draw(st.integers(0, tar.ID_LIMIT)), draw(st.integers(0, 70_000))
            entry.mtime = draw(st.integers(0, 2**34))
            if entry.type in {tarfile.SYMTYPE, tarfile.LNKTYPE}:
                entry.linkname = draw(NAMES)
            if entry.type == tarfile.CHRTYPE:
                entry.devmajor, entry.devminor = draw(st.integers(0, 4000)), draw(st.integers(0, 255))
            archive.addfile(entry, io.BytesIO(data))
            entries.append(entry)
    return out.getvalue(), entries


@hypothesis.given(archives(), st.integers(1, 5000))
def test_what_tarfile_writes_is_read(given: tuple[bytes, list[tarfile.TarInfo]], size: int) -> None:
    data, expected = given
    found = list(tar.Reader(tar.Source(unpacking.chunked(data, size))))
    assert [(each.name.rstrip(b"/").decode(), each.link.decode()) for each in found] == [
        (each.name, each.linkname) for each in expected
    ]
    assert [(each.mode, each.uid, each.gid, each.size, each.mtime_ns // 10**9) for each in found] == [
        (each.mode, each.uid, each.gid, each.size, each.mtime) for each in expected
    ]
    assert [(each.major, each.minor) for each in found] == [(each.devmajor, each.devminor) for each in expected]


GOOD = ocilayout.tar(
    {
        "d": ocilayout.folder(),
        "d/f": ocilayout.file("x" * 700, xattrs={"user.a": b"b"}),
        "l": ocilayout.link("d"),
        "l/" + "long" * 40: "y",
        "h": ocilayout.hardlink("d/f"),
    }
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 1, 8, 512]))
        data[start:end] = draw(st.one_of(st.binary(max_size=12), st.just(b"\0" * 512), st.just(bytes(data[:512]))))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def fixed(data: bytes) -> bytes:
    """With right checksums: so that damage gets past the first check."""
    blocks = []
    for start in range(0, len(data), 512):
        block = data[start : start + 512]
        if len(block) == 512 and block[257:262] == b"ustar":
            block = block[:148] + b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 256) + block[156:]
        blocks.append(block)
    return b"".join(blocks)


@contextlib.contextmanager
def place() -> Iterator[pathlib.Path]:
    """A folder beside which something lies that must not change."""
    with tempfile.TemporaryDirectory() as folder:
        canary = pathlib.Path(folder, "canary")
        canary.mkdir()
        (canary / "secret").write_text("secret")
        before = os.stat(canary / "secret")
        yield pathlib.Path(folder, "work")
        after = os.stat(canary / "secret")
        assert (after.st_mode, after.st_nlink, after.st_size) == (before.st_mode, before.st_nlink, before.st_size)
        assert os.listdir(canary) == ["secret"]
        assert set(os.listdir(folder)) == {"canary", "work"}


def unpacked(root: pathlib.Path, data: bytes, *lower: pathlib.Path, size: int = 1 << 18) -> dict[str, str] | str:
    before = len(os.listdir("/proc/self/fd"))
    try:
        unpacking.apply(root, data, *lower, size=size)
    except (tar.TarError, unpack.UnpackError) as exc:
        return str(exc)
    finally:
        assert len(os.listdir("/proc/self/fd")) == before
    return unpacking.listing(root)


@hypothesis.given(damaged(GOOD), st.booleans())
def test_damaged_archives(data: bytes, mended: bool) -> None:
    with place() as work:
        work.mkdir()
        data = fixed(data) if mended else data
        assert unpacked(work / "1", data) == unpacked(work / "2", data, size=700)


WHERE = ["a", "b", "a/b", "a/b/c", "l", "l/a", "l/l/b", "./a", "a//b/", "/a", "", ".", "..", "../canary/x", "a/../b",
         "a/../../canary/secret", "canary", "canary/secret"]  # fmt: skip
WHITEOUTS = [".wh.a", "a/.wh.b", "l/.wh.a", "a/.wh..wh..opq", ".wh..wh..opq", "l/.wh..wh..opq", ".wh..wh.x", ".wh.",
             ".wh...", "a/.wh.b/c", ".wh.canary", "l/.wh.secret"]  # fmt: skip
TARGETS = ["a", "b", "a/b", "..", "../..", "../../canary", "/", "/a", "l", ".", "", "../canary/secret",
           "/proc/self/root", "../../../../../../../../../../tmp"]  # fmt: skip


@st.composite
def schemes(draw: st.DrawFn) -> bytes:
    """Well-formed archives of somebody who wants to get out."""
    parts = []
    for _ in range(draw(st.integers(1, 9))):
        name = draw(st.one_of(st.sampled_from(WHERE), st.sampled_from(WHITEOUTS)))
        kind = draw(st.sampled_from([b"0", b"5", b"2", b"2", b"1", b"6"]))
        data = b"x" * draw(st.sampled_from([0, 3])) if kind == b"0" else b""
        link = os.fsencode(draw(st.sampled_from(TARGETS))) if kind in b"12" else b""
        spec = ocilayout.Spec(kind, data, mode=draw(st.sampled_from([0o644, 0o4777, 0])), link=link)
        parts.append(ocilayout.entry(name, spec._replace(uid=os.geteuid(), gid=os.getegid())))
    return b"".join(parts) + b"\0" * 1024


@hypothesis.given(schemes(), schemes())
def test_schemes(first: bytes, second: bytes) -> None:
    with place() as work:
        work.mkdir()
        lower = work / "1"
        unpacked(lower, first)
        before = unpacking.listing(lower)
        found = unpacked(work / "2", second, lower)
        assert unpacked(work / "3", second, lower, size=512) == found
        assert unpacking.listing(lower) == before
        if isinstance(found, dict):
            assert not [path for path in found if os.path.basename(path).startswith(".wh.")]


# -- compression ------------------------------------------------------------------------------------------------------


class Memory:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def open(self) -> Memory:
        return Memory(self._file.getvalue())

    def read(self, size: int, /) -> bytes:
        return self._file.read(size)

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


@hypothesis.given(st.one_of(st.binary(max_size=2000), damaged(gzip.compress(GOOD, mtime=0))))
def test_damaged_streams(data: bytes) -> None:
    with contextlib.suppress(layer.LayerError), layer.Stream(content.Layer(Memory(data), layer.ANY)) as stream:
        for _ in stream.chunks():
            pass


# -- documents --------------------------------------------------------------------------------------------------------

KEYS = ["mediaType", "digest", "size", "layers", "config", "manifests", "schemaVersion", "platform", "annotations",
        "os", "architecture", "rootfs", "diff_ids", "Cmd", "Env", "User", "Healthcheck", "Test", "Labels", "Config",
        "Layers", "RepoTags", "imageLayoutVersion"]  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["sha256:" + "a" * 64, *sorted(descriptor.DOCUMENTS | descriptor.CONFIGS), descriptor.OCI_LAYER]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)),
    max_leaves=20,
)
TARGET = descriptor.Descriptor(descriptor.OCI_MANIFEST, "sha256:" + "0" * 64, 1)
INDEX = TARGET._replace(media_type=descriptor.OCI_INDEX)
READERS: dict[str, Callable[[bytes], Any]] = {
    "manifest": lambda data: manifest.parse(data, TARGET, what="x"),
    "references": lambda data: manifest.references(data, TARGET, what="x"),
    "index": lambda data: manifest.parse_index(data, INDEX, what="x"),
    "config": lambda data: content.parse_config(data, what="x"),
    "descriptor": lambda data: descriptor.parse(json.loads(data), what="x"),
}


@pytest.mark.parametrize("reader", READERS)
@hypothesis.given(VALUES)
def test_documents(reader: str, value: Any) -> None:
    with contextlib.suppress(errors.ImageError):
        READERS[reader](json.dumps(value).encode())


@hypothesis.given(VALUES)
def test_docker_archives(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "manifest.json").write_text(json.dumps(value))
        with contextlib.suppress(errors.ImageError):
            docker_archive.DockerArchive(files.Folder(folder), what="x").find()


@hypothesis.given(st.binary(max_size=100))
def test_documents_of_any_bytes(data: bytes) -> None:
    for read in ("manifest", "index", "config"):
        with contextlib.suppress(errors.ImageError):
            READERS[read](data)


@hypothesis.given(st.text("aA0._-/:@[] é\n", max_size=40) | st.text(max_size=40))
def test_references(text: str) -> None:
    try:
        found = reference.parse(text)
    except errors.ImageError as exc:
        said = str(exc)
    else:
        said = ""
        assert reference.parse(str(found)) == found
        assert reference.parse(found.familiar) == found
    assert "\n" not in said


# -- whole images -----------------------------------------------------------------------------------------------------


@hypothesis.settings(max_examples=EXAMPLES or 15)
@hypothesis.given(st.data())
def test_one_wrong_byte_anywhere_in_a_layout(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = pathlib.Path(folder, "l")
        ocilayout.write_layout(layout, layers=[GOOD, {"d/g": "g"}], config={"Cmd": ["a"]})
        victim = data.draw(st.sampled_from(sorted(path for path in layout.rglob("*") if path.is_file())))
        whole = victim.read_bytes()
        position = data.draw(st.integers(0, len(whole) - 1))
        victim.write_bytes(
            whole[:position] + bytes([whole[position] ^ data.draw(st.integers(1, 255))]) + whole[position + 1 :]
        )
        where = paths.Paths(f"{folder}/data", f"{folder}/run")
        paths.prepare(where)
        with contextlib.closing(image_store.ImageStore(where)) as images:
            try:
                found = images.resolve(f"oci:{layout}", base="/")
            except errors.ImageError:
                pass
            else:  # a byte of the index that means nothing
                assert victim.name in {"index.json", "oci-layout"}
                assert found.config.cmd == ("a",)
        assert not os.path.isdir(f"{where.data}/stage") or os.listdir(f"{where.data}/stage") == []
