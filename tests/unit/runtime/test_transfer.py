"""Files into and out of a root, whatever the tar stream or the tree tries."""

from __future__ import annotations

import io
import os
import pathlib
import stat
import tarfile
from collections.abc import Iterator

import pytest

from devenv import errors
from devenv.runtime import packing, unpacking

Entry = tuple[str, bytes, str]  # name, type, link or content


@pytest.fixture
def root(tmp_path: pathlib.Path) -> Iterator[int]:
    (tmp_path / "root" / "into").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def stream(*entries: Entry) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, more in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                entry.size = len(more)
                archive.addfile(entry, io.BytesIO(more.encode()))
            else:
                entry.linkname = more
                archive.addfile(entry)
    made.seek(0)
    return made


def unpack(root: int, given: io.BytesIO) -> None:
    unpacking.Unpacker(root, "/into", unpacking.Policy(owners=False), rename=lambda name: name).run(given)


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", tarfile.REGTYPE, "x")],
        [("a/../../out", tarfile.REGTYPE, "x")],
        [("a", tarfile.LNKTYPE, "../../outside/secret")],
        [("a", tarfile.SYMTYPE, "OUTSIDE"), ("a/out", tarfile.REGTYPE, "x")],
        [("a", tarfile.SYMTYPE, "../../outside"), ("a/out", tarfile.REGTYPE, "x")],
        [("a", tarfile.SYMTYPE, "OUTSIDE/secret"), ("b", tarfile.LNKTYPE, "a/x")],
        [("d/", tarfile.DIRTYPE, ""), ("d", tarfile.REGTYPE, "x")],
    ],
)
def test_what_would_lead_out_is_refused(root: int, tmp_path: pathlib.Path, entries: list[Entry]) -> None:
    outside = str(tmp_path / "outside")
    given = [(name, kind, more.replace("OUTSIDE", outside)) for name, kind, more in entries]
    with pytest.raises((errors.ContainerError, OSError)):
        unpack(root, stream(*given))
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert (tmp_path / "outside" / "secret").stat().st_nlink == 1


def test_links_in_the_way_are_replaced_or_resolved_inside(root: int, tmp_path: pathlib.Path) -> None:
    top = tmp_path / "root"
    (top / "into" / "file").symlink_to(tmp_path / "outside" / "secret")
    (top / "etc").mkdir()
    (top / "into" / "folder").symlink_to("/etc")
    unpack(root, stream(("file", tarfile.REGTYPE, "new"), ("folder/made", tarfile.REGTYPE, "in etc")))
    assert (top / "into" / "file").read_text() == "new"
    assert not (top / "into" / "file").is_symlink()
    assert (top / "etc" / "made").read_text() == "in etc"
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


def test_a_tree_goes_round(root: int, tmp_path: pathlib.Path) -> None:
    tree = tmp_path / "root" / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("content")
    (tree / "deep" / "file").chmod(0o640)
    os.link(tree / "deep" / "file", tree / "hard")
    (tree / "dangling").symlink_to("/nowhere")
    os.mkfifo(tree / "fifo")
    os.utime(tree / "deep", (1, 1.5))
    made = io.BytesIO()
    packer = packing.Packer(made)
    packer.tree(packing.find(root, "/tree", follow=False), "tree")
    packer.close()
    made.seek(0)
    unpack(root, made)
    found = tmp_path / "root" / "into" / "tree"
    assert (found / "hard").read_text() == "content"
    assert os.path.samefile(found / "hard", found / "deep" / "file")
    assert stat.S_IMODE((found / "deep" / "file").stat().st_mode) == 0o640
    assert os.readlink(found / "dangling") == "/nowhere"
    assert (found / "deep").stat().st_mtime == 1.5
    assert stat.S_ISFIFO((found / "fifo").stat().st_mode)


def test_paths_are_found_beneath_the_root(root: int, tmp_path: pathlib.Path) -> None:
    top = tmp_path / "root"
    (top / "etc").mkdir()
    (top / "etc" / "passwd").write_text("")
    (top / "absolute").symlink_to("/etc")
    (top / "up").symlink_to("../../../../etc/passwd")
    (top / "loop").symlink_to("loop")

    def name(path: str, *, follow: bool = False) -> str:
        found = packing.find(root, path, follow=follow)
        os.close(found.parent)
        return f"{found.name}{'/' if found.is_folder else ''}"

    assert name("/absolute") == "absolute"
    assert name("/absolute/") == "etc/"
    assert name("/absolute/.") == "./"
    assert name("/absolute/passwd") == "passwd"
    assert name("/up", follow=True) == "passwd"
    assert name("/../../etc") == "etc/"
    assert name("/") == "./"
    for path in ("/etc/passwd/", "/nothing", "/etc/nothing"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            name(path)
    with pytest.raises(OSError, match="symbolic links"):
        name("/loop", follow=True)


def test_a_stream_that_is_none(root: int) -> None:
    with pytest.raises(errors.ContainerError, match="no tar archive"):
        unpack(root, io.BytesIO(b"nothing of the kind" * 100))
