"""ADD of archives: what is one, what is made of it, and those that mean harm."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devenv import errors
from devenv.build import archives, context, selection, transfer
from devenv.image import source
from devenv.util import tree

pytestmark = pytest.mark.root

OLD = 1_600_000_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    (tmp_path / "image").mkdir()
    return tmp_path


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644, OLD
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))


def add(place: Path, target: str = "/x/", *, sources: tuple[str, ...] = ("*",), **options: Any) -> transfer.Copied:
    root = os.open(place / "image", os.O_PATH | os.O_DIRECTORY)
    try:
        with context.folder(str(place / "context")) as tree:
            return transfer.copy(selection.select(tree, sources), root, target, unpack=True, **options)
    finally:
        os.close(root)


USUAL = (
    member("./", tarfile.DIRTYPE, mode=0o751),
    member("dir/", tarfile.DIRTYPE, mode=0o1777, uid=7, gid=8),
    member("dir/file", data=b"content", mode=0o4755, uid=1234, gid=5678),
    member("dir/link", tarfile.SYMTYPE, linkname="file"),
    member("dir/again", tarfile.LNKTYPE, linkname="dir/file"),
    member("implied/deep", data=b"deep"),
    member("fifo", tarfile.FIFOTYPE, mode=0o600),
    member("dir/.wh.file", data=b"no whiteout"),
)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_whatever_it_is_compressed_with(place: Path, mode: str) -> None:
    pack(place / "context" / "any-name", *USUAL, mode=mode)
    add(place, "/x")  # a folder, though the name has no slash
    x = place / "image" / "x"
    status = (x / "dir" / "file").stat()
    assert (x / "dir" / "file").read_bytes() == b"content"
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o4755, 1234, 5678, OLD)
    assert os.readlink(x / "dir" / "link") == "file"
    assert (x / "dir" / "again").stat().st_ino == status.st_ino
    assert [oct(stat.S_IMODE((x / name).stat().st_mode)) for name in (".", "dir", "implied", "fifo")] == [
        "0o751",
        "0o1777",
        "0o755",
        "0o600",
    ]
    assert (x / "dir").stat().st_mtime == OLD
    assert (x / "dir" / ".wh.file").read_bytes() == b"no whiteout"


def test_zstd(place: Path) -> None:
    pack(place / "a.tar", *USUAL)
    done = subprocess.run(["zstd", "-q", place / "a.tar", "-o", place / "context" / "a"], check=False)
    if done.returncode:
        pytest.skip("zstd(1) is not here")
    add(place)
    assert (place / "image/x/implied/deep").read_bytes() == b"deep"


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text\n" * 1000),
        lambda path: path.write_bytes(b"\x1f\x8b broken"),
        lambda path: path.write_bytes(bytes(10240)),
        lambda path: path.write_bytes(gzip.compress(b"text")),
        make_zip,
    ],
    ids=["empty", "text", "broken", "zeros", "gzip", "zip"],
)
def test_what_is_no_archive_is_copied(place: Path, make: Callable[[Path], object]) -> None:
    make(place / "context" / "a.tar.gz")
    add(place)
    assert (place / "image/x/a.tar.gz").read_bytes() == (place / "context/a.tar.gz").read_bytes()


def test_chown_and_epoch(place: Path) -> None:
    pack(place / "context" / "a.tar", *USUAL)
    add(place, "/x/y", chown="5:6", chmod="700", epoch=OLD - 10)
    found = [path.lstat() for path in (place / "image" / "x").rglob("*")] + [(place / "image" / "x").lstat()]
    assert {(each.st_uid, each.st_gid) for each in found} == {(5, 6)}
    assert oct((place / "image/x/y/dir/.wh.file").stat().st_mode & 0o7777) == "0o644"
    assert max(each.st_mtime for each in found) == OLD - 10


def test_what_is_in_the_way_goes(place: Path) -> None:
    pack(
        place / "context" / "a.tar",
        member("file", data=b"new"),
        member("folder", tarfile.DIRTYPE),
        member("merged", tarfile.DIRTYPE),
        member("merged/new", data=b"new"),
        member("twice/x", data=b"1"),
        member("twice", tarfile.SYMTYPE, linkname="merged"),
        member("twice/through", data=b"through"),
    )
    x = place / "image" / "x"
    (x / "file" / "deep").mkdir(parents=True)
    (x / "folder").write_text("a file")
    (x / "merged").mkdir()
    (x / "merged" / "old").write_text("old")
    add(place)
    assert (x / "file").read_bytes() == b"new"
    assert (x / "folder").is_dir()
    assert sorted(os.listdir(x / "merged")) == ["new", "old", "through"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../out", data=b"x")], "would lead out"),
        ([member("a/../../out", data=b"x")], "would lead out"),
        ([member("a", tarfile.LNKTYPE, linkname="../../etc/passwd")], "would lead out"),
        ([member("a", tarfile.LNKTYPE, linkname="nothing")], "No such file"),
        ([member("d", tarfile.DIRTYPE), member("a", tarfile.LNKTYPE, linkname="d")], "hard link to a folder"),
        ([member("f", data=b"x"), member("f/x", data=b"x")], "no folder"),
    ],
)
def test_refused(place: Path, members: list[tuple[tarfile.TarInfo, bytes]], message: str) -> None:
    pack(place / "context" / "bad.tar", *members)
    with pytest.raises(errors.BuildError, match=rf"the archive `bad\.tar` can't be unpacked: .*{message}"):
        add(place)
    assert not (place / "out").exists()


@pytest.mark.parametrize("link", ["{outside}", "../../../../../../outside", "/"])
def test_links_lead_nowhere_but_within(place: Path, link: str) -> None:
    outside = place / "outside"
    outside.mkdir()
    pack(
        place / "context" / "a.tar",
        member("way", tarfile.SYMTYPE, linkname=link.format(outside=outside)),
        member("way/planted", data=b"x"),
        member("way/etc/planted", data=b"x"),
        member("deep/way", tarfile.SYMTYPE, linkname="../way"),
        member("deep/way/again", data=b"x"),
    )
    add(place)
    assert list(outside.iterdir()) == []
    assert not Path("/planted").exists()
    assert len(list((place / "image").rglob("planted"))) == 2
    assert len(list((place / "image").rglob("again"))) == 1


def test_a_path_as_deep_as_paths_can_be(place: Path) -> None:
    pack(place / "context" / "deep.tar", member("d/" * 1500 + "file", data=b"x"))
    add(place)
    try:
        assert (place / "image/x" / ("d/" * 1500) / "file").read_bytes() == b"x"
    finally:
        tree.remove(str(place / "image"))  # pytest can't


def test_a_truncated_archive_is_told(place: Path) -> None:
    pack(place / "whole.tar", member("a", data=bytes(100_000)))
    (place / "context" / "cut.tar").write_bytes((place / "whole.tar").read_bytes()[:50_000])
    with pytest.raises(errors.BuildError, match=r"`cut\.tar` can't be unpacked: it ends in the middle of a file"):
        add(place)


def test_a_context_from_a_pipe(place: Path) -> None:
    pack(place / "a.tar.gz", *USUAL, mode="w:gz")
    with (place / "a.tar.gz").open("rb") as file:
        archives.context(source.Pipe(file.fileno()), str(place / "context"), name="-")
    status = (place / "context" / "dir" / "file").stat()
    assert (status.st_uid, oct(status.st_mode & 0o7777)) == (os.geteuid(), "0o4755")
