"""COPY into an image's filesystem, on the real kernel: BuildKit's rules, owners, and links that mean harm."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from devenv import errors
from devenv.build import context, ignore, selection, transfer

pytestmark = pytest.mark.root

OLD = 1_600_000_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    where = tmp_path / "context"
    (where / "src" / "sub").mkdir(parents=True)
    (where / "a").write_text("a")
    (where / "b").write_text("b")
    (where / "src" / "main").write_text("main")
    (where / "src" / "sub" / "deep").write_text("deep")
    return where


@pytest.fixture
def image(tmp_path: Path) -> Path:
    where = tmp_path / "image"
    (where / "etc").mkdir(parents=True)
    (where / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/app:/bin/sh\n")
    (where / "etc" / "group").write_text("root:x:0:\napp:x:1001:\nstaff:x:50:\n")
    where.chmod(0o755)
    return where


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy(source: Path, image: Path, sources: Sequence[str], target: str, **options: Any) -> transfer.Copied:
    chosen = {name: options.pop(name) for name in ("excludes", "parents") if name in options}
    owned = options.pop("owned", False)
    with context.folder(str(source), owned=owned) as tree, opened(image) as root:
        return transfer.copy(selection.select(tree, sources, **chosen), root, target, **options)


def listed(where: Path) -> list[str]:
    return sorted(
        str(path.relative_to(where)) for path in where.rglob("*") if "etc" not in path.relative_to(where).parts
    )


@pytest.mark.parametrize(
    ("sources", "target", "cwd", "expected"),
    [
        (["a"], "/x", "/", ["x"]),
        (["a"], "/x/", "/", ["x", "x/a"]),
        (["a"], "/x/.", "/", ["x", "x/a"]),
        (["a"], "x/y", "/w", ["w", "w/x", "w/x/y"]),
        (["a"], ".", "/w", ["w", "w/a"]),
        (["a"], "", "/w", ["w", "w/a"]),
        (["a"], "../../x", "/w", ["x"]),
        (["a"], "/there", "/", ["there", "there/a", "there/old"]),
        (["a", "b"], "/x/", "/", ["x", "x/a", "x/b"]),
        (["a", "b"], "/there", "/", ["there", "there/a", "there/b", "there/old"]),
        (["src"], "/x", "/", ["x", "x/main", "x/sub", "x/sub/deep"]),
        (["src"], "/there", "/", ["there", "there/main", "there/old", "there/sub", "there/sub/deep"]),
        (["src", "src/sub"], "/x", "/", ["x", "x/deep", "x/main", "x/sub", "x/sub/deep"]),
        (["none*"], "/x/", "/", []),
    ],
)
def test_where_things_go(
    source: Path, image: Path, sources: list[str], target: str, cwd: str, expected: list[str]
) -> None:
    if "there" in target:
        (image / "there").mkdir()
        (image / "there" / "old").write_text("old")
    copy(source, image, sources, target, cwd=cwd)
    assert listed(image) == expected


def test_several_files_need_a_folder(source: Path, image: Path) -> None:
    with pytest.raises(errors.BuildError, match="no folder") as caught:
        copy(source, image, ["a", "b"], "/x")
    assert caught.value.hint == "write `/x/`"


def test_a_file_takes_the_place_of_a_file_or_link_and_of_no_folder(source: Path, image: Path) -> None:
    (image / "file").write_text("old and longer")
    (image / "folder" / "a").mkdir(parents=True)
    (image / "links").mkdir()
    (image / "links" / "a").symlink_to("/etc/passwd")
    copy(source, image, ["a"], "/file")
    copy(source, image, ["a"], "/links/")
    assert (image / "file").read_text() == "a"
    assert not (image / "links" / "a").is_symlink()
    assert (image / "etc" / "passwd").read_text().startswith("root:")
    with pytest.raises(errors.BuildError, match="can't take the place of the folder `a`"):
        copy(source, image, ["a"], "/folder/")


def test_a_folder_takes_the_place_of_nothing_else(source: Path, image: Path) -> None:
    (image / "x").write_text("a file")
    with pytest.raises(errors.BuildError, match="`/x` in the image is no folder"):
        copy(source, image, ["src"], "/x")
    with pytest.raises(errors.BuildError, match="`/x` in the image is no folder"):
        copy(source, image, ["a"], "/x/y/z")
    (image / "merged").mkdir()
    (image / "merged" / "sub").symlink_to("/etc")
    with pytest.raises(errors.BuildError, match="the folder `src/sub` can't take the place"):
        copy(source, image, ["src"], "/merged")


def test_links_in_the_target_are_followed_within_the_image(source: Path, image: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (image / "up").symlink_to("../../../../outside")
    (image / "absolute").symlink_to(str(outside))
    (image / "var").mkdir()
    (image / "var" / "run").symlink_to("/run")  # which isn't there
    (image / "file").symlink_to("target")
    copy(source, image, ["a"], "/up/")
    copy(source, image, ["a"], "/absolute/")
    copy(source, image, ["a"], "/var/run/deep/")
    copy(source, image, ["a"], "/file")
    assert list(outside.iterdir()) == []
    inside = f"{str(outside).removeprefix('/')}/a"
    assert [(image / path).read_text() for path in ("outside/a", inside, "run/deep/a", "target")] == ["a"] * 4
    assert (image / "file").is_symlink()


def test_modes_and_times_are_kept_and_the_context_belongs_to_root(source: Path, image: Path) -> None:
    (source / "src" / "main").chmod(0o4750)
    (source / "src" / "sub").chmod(0o1770)
    (source / "src" / "link").symlink_to("main")
    for path in ("src/main", "src/sub", "src/sub/deep", "src"):
        os.chown(source / path, 1234, 5678)
        if "main" in path:
            (source / path).chmod(0o4750)
        os.utime(source / path, (OLD, OLD))
    os.utime(source / "src" / "link", (OLD, OLD), follow_symlinks=False)
    os.utime(source / "src", (OLD, OLD))
    copy(source, image, ["src"], "/x/y")
    seen = {
        path: (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime)
        for path in ("x/y", "x/y/main", "x/y/sub", "x/y/sub/deep")
        for status in [os.lstat(image / path)]
    }
    assert seen == {
        "x/y": (0o755, 0, 0, OLD),  # its content is meant, and not itself; but BuildKit gives it the source's time
        "x/y/main": (0o4750, 0, 0, OLD),
        "x/y/sub": (0o1770, 0, 0, OLD),
        "x/y/sub/deep": (0o644, 0, 0, OLD),
    }
    assert os.readlink(image / "x/y/link") == "main"
    assert os.lstat(image / "x/y/link").st_mtime == OLD


def test_a_folder_that_is_there_takes_on_the_sources_mode(source: Path, image: Path) -> None:
    (image / "x" / "sub").mkdir(parents=True)
    (image / "x").chmod(0o700)
    (image / "x" / "sub").chmod(0o700)
    (source / "src" / "sub").chmod(0o751)
    copy(source, image, ["src"], "/x")
    assert [stat.S_IMODE((image / path).stat().st_mode) for path in ("x", "x/sub")] == [0o700, 0o751]


def test_parents_that_are_there_stay_as_they_are(source: Path, image: Path) -> None:
    (image / "x" / "src").mkdir(parents=True)
    (image / "x" / "src").chmod(0o700)
    (source / "src").chmod(0o751)
    copy(source, image, ["src/sub/deep"], "/x/", parents=True)
    copy(source, image, ["src/sub/deep"], "/new/", parents=True)
    modes = [stat.S_IMODE((image / path).stat().st_mode) for path in ("x/src", "new/src")]
    assert modes == [0o700, 0o751]
    assert (image / "x/src/sub/deep").read_text() == "deep"
    assert not (image / "x/src/main").exists()


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("app", (1000, 1001)),
        ("app:staff", (1000, 50)),
        ("app:7", (1000, 7)),
        ("55", (55, 55)),
        ("55:staff", (55, 50)),
        (":staff", (0, 50)),
        ("1000", (1000, 1000)),
    ],
)
def test_chown(source: Path, image: Path, chown: str, owner: tuple[int, int]) -> None:
    copy(source, image, ["src"], "/new/x", chown=chown)
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (image / "new").rglob("*")}
    assert owners == {owner}
    status = (image / "new").stat()
    assert (status.st_uid, status.st_gid) == owner


@pytest.mark.parametrize("chown", ["nobody-here", "app:nobody-here", "-1", "99999999999"])
def test_chown_to_nobody(source: Path, image: Path, chown: str) -> None:
    with pytest.raises(errors.BuildError, match=f"`--chown={chown}`: "):
        copy(source, image, ["a"], "/x", chown=chown)
    assert listed(image) == []


def test_passwd_is_the_images_own_whatever_links_it_has(source: Path, image: Path) -> None:
    (image / "etc" / "passwd").unlink()
    (image / "etc" / "passwd").symlink_to("/../../../../etc/passwd")
    with pytest.raises(errors.BuildError, match="no user `daemon`"):
        copy(source, image, ["a"], "/x", chown="daemon")


def test_files_of_a_stage_keep_their_owners(source: Path, image: Path) -> None:
    os.chown(source / "src" / "main", 1234, 5678)
    os.lchown(source / "a", 33, 33)
    copy(source, image, ["src", "a"], "/x/", owned=True)
    owners = [(image / path).stat() for path in ("x/main", "x/a", "x/sub")]
    assert [(each.st_uid, each.st_gid) for each in owners] == [(1234, 5678), (33, 33), (0, 0)]


def test_chmod(source: Path, image: Path) -> None:
    (source / "src" / "main").chmod(0o700)
    (source / "src" / "link").symlink_to("main")
    copy(source, image, ["src"], "/octal/x", chmod="0750")
    copy(source, image, ["src"], "/words/x", chmod="u=rwX,go=rX")
    paths = ("", "x", "x/main", "x/sub", "x/sub/deep")
    assert [oct((image / "octal" / path).stat().st_mode & 0o7777) for path in paths] == ["0o750"] * 5
    assert [oct((image / "words" / path).stat().st_mode & 0o7777) for path in paths] == [
        "0o755",
        "0o755",
        "0o755",
        "0o755",
        "0o644",
    ]


def test_hard_links_holes_attributes_and_special_files(source: Path, image: Path) -> None:
    os.link(source / "src" / "main", source / "src" / "sub" / "again")
    os.mkfifo(source / "src" / "fifo", 0o640)
    os.mknod(source / "src" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "src" / "whiteout", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "src" / "sock"))
    with (source / "src" / "sparse").open("wb") as file:
        file.truncate(32 << 20)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(source / "src" / "main", "security.capability", capability)
    os.setxattr(source / "src" / "sub", "user.note", b"kept")
    os.setxattr(source / "src" / "sub", "trusted.overlay.opaque", b"y")
    copied = copy(source, image, ["src"], "/x")
    target = image / "x"
    assert (target / "main").stat().st_ino == (target / "sub" / "again").stat().st_ino
    assert (target / "sparse").stat().st_size == 32 << 20
    assert (target / "sparse").stat().st_blocks < 64
    assert os.getxattr(target / "main", "security.capability") == capability
    assert os.listxattr(target / "sub") == ["user.note"]
    kinds = [(target / name).lstat() for name in ("fifo", "null", "sock")]
    assert [oct(each.st_mode) for each in kinds] == [
        oct(stat.S_IFIFO | 0o640),
        oct((source / "src" / "null").lstat().st_mode),
        kinds_of(source),
    ]
    assert kinds[1].st_rdev == os.makedev(1, 3)
    assert not (target / "whiteout").exists()
    assert copied.notes == ["`src/whiteout` is left out: a device 0:0 would hide a file of the image"]


def kinds_of(source: Path) -> str:
    """A socket's copy is an empty file with its mode."""
    return oct(stat.S_IFREG | stat.S_IMODE((source / "src" / "sock").lstat().st_mode))


def test_no_time_is_later_than_the_epoch(source: Path, image: Path) -> None:
    os.utime(source / "src" / "main", (OLD - 5, OLD - 5))
    chosen = selection.inline([("note", "text")])
    copy(source, image, ["src"], "/new/x", epoch=OLD)
    with opened(image) as root:
        transfer.copy(chosen, root, "/other/", epoch=OLD)
    times = {
        path.relative_to(image).as_posix(): path.lstat().st_mtime
        for path in image.rglob("*")
        if "etc" not in str(path.relative_to(image))
    }
    assert times.pop("new/x/main") == OLD - 5
    assert set(times.values()) == {OLD}


def test_inline_files(image: Path) -> None:
    with opened(image) as root:
        transfer.copy(
            selection.inline([("one", "1\n"), ("two", "2\n")]), root, "x/", cwd="/w", chown="app", chmod="600"
        )
        transfer.copy(selection.inline([("one", "1\n")]), root, "/named")
    status = (image / "w/x/two").stat()
    assert ((image / "w/x/two").read_text(), status.st_uid, oct(status.st_mode & 0o7777)) == ("2\n", 1000, "0o600")
    assert oct((image / "named").stat().st_mode & 0o7777) == "0o644"


def test_a_umask_changes_nothing(source: Path, image: Path) -> None:
    before = os.umask(0o077)
    try:
        copy(source, image, ["src"], "/x/y")
    finally:
        os.umask(before)
    assert [oct((image / path).stat().st_mode & 0o777) for path in ("x", "x/y", "x/y/main")] == [
        "0o755",
        "0o755",
        "0o644",
    ]


@pytest.mark.parametrize("change", ["content", "link", "gone", "folder"])
def test_what_changed_since_its_digest_was_made_is_told(source: Path, image: Path, change: str) -> None:
    with context.folder(str(source)) as tree, opened(image) as root:
        chosen = selection.select(tree, ["."])
        (source / "src" / "main").unlink()
        if change == "content":
            (source / "src" / "main").write_text("other")
        elif change == "link":
            (source / "src" / "main").symlink_to("/etc/passwd")
        elif change == "folder":
            (source / "src" / "main").mkdir()
        with pytest.raises(transfer.Changed, match="`src/main` was changed"):
            transfer.copy(chosen, root, "/x/")


def test_a_folder_swapped_for_a_link_leads_nowhere(source: Path, image: Path) -> None:
    with context.folder(str(source)) as tree, opened(image) as root:
        chosen = selection.select(tree, ["."])
        (source / "src").rename(source / "moved")
        (source / "src").symlink_to("/etc")
        with pytest.raises(transfer.Changed, match="`src` was changed"):
            transfer.copy(chosen, root, "/x/")


def test_only_what_an_ignore_file_leaves(source: Path, image: Path) -> None:
    rules = ignore.read(b"src/*\n!src/sub\n", file="x")
    with context.folder(str(source), matcher=rules) as tree, opened(image) as root:
        transfer.copy(selection.select(tree, ["."]), root, "/x/")
    assert listed(image) == ["x", "x/a", "x/b", "x/src", "x/src/sub", "x/src/sub/deep"]


def test_no_descriptor_stays_open(source: Path, image: Path) -> None:
    before = os.listdir("/proc/self/fd")
    copy(source, image, ["src", "a"], "/x/", chown="app")
    with pytest.raises(errors.BuildError):
        copy(source, image, ["src"], "/x/main")
    assert os.listdir("/proc/self/fd") == before


_IN_A_NAMESPACE = """
    import json, os, sys
    from devenv.build import context, selection, transfer
    source, image = sys.argv[1:]
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    with context.folder(source) as tree:
        copied = transfer.copy(selection.select(tree, ["."]), root, "/x/", chown=os.environ.get("CHOWN", ""))
    print(json.dumps(copied.notes))
"""


@pytest.mark.parametrize(
    ("chown", "notes"), [("", []), ("55", ["owners could not be kept: their user or group is not mapped here"])]
)
def test_in_a_user_namespace(source: Path, image: Path, chown: str, notes: list[str]) -> None:
    os.chown(source / "a", 1234, 5678)
    (source / "src" / "main").chmod(0o4755)
    os.mknod(source / "src" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", textwrap.dedent(_IN_A_NAMESPACE), source, image],
        check=True,
        capture_output=True,
        env={**os.environ, "CHOWN": chown, "PYTHONPATH": os.getcwd()},
    )
    assert json.loads(done.stdout)[: len(notes)] == notes
    assert "`src/null` is left out: device nodes can't be made without root" in json.loads(done.stdout)
    assert (image / "x/src/sub/deep").read_text() == "deep"
    setuid = bool((image / "x/src/main").stat().st_mode & stat.S_ISUID)
    assert setuid is not bool(notes)
