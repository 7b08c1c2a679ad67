"""Project quotas on a container's folders: given, exceeded, given back. The guest of `tests.guest` has the kernel."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterator

import pytest

from devenv.linux import quota as call
from devenv.runtime import quota
from tests.support import filesystem, machine

pytestmark = [pytest.mark.root, machine.needs_root]

MIB = 1 << 20


@pytest.fixture
def disk(short_path: pathlib.Path) -> Iterator[pathlib.Path]:
    place = short_path / "fs"
    with filesystem.mounted(
        "ext4", place, short_path / "images", 64 * MIB, made="-q -O quota,project", options="loop,prjquota"
    ):
        yield place


def container(disk: pathlib.Path, name: str) -> list[str]:
    folders = [str(disk / name / part) for part in ("upper", "work")]
    for folder in folders:
        os.makedirs(folder)
    return folders


def project_of(folder: str) -> int:
    opened = os.open(folder, os.O_RDONLY)
    try:
        return call.project(opened)
    finally:
        os.close(opened)


def is_used(disk: pathlib.Path, number: int) -> bool:
    opened = os.open(disk, os.O_RDONLY)
    try:
        return call.is_used(opened, number)
    finally:
        os.close(opened)


def fits(folder: str, size: int) -> bool:
    """Whether another file of so many bytes can be written. Not by root: CAP_SYS_RESOURCE, which overlayfs lays down
    before it writes (ovl_fill_super), has no limits on ext4."""
    os.chmod(folder, 0o777)
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setuid(65534)
            path = f"{folder}/{os.urandom(4).hex()}"
            with open(path, "wb", buffering=0) as file:
                code = 0 if file.write(b"x" * size) == size else 1
            if code:
                os.unlink(path)  # what did fit
        except OSError as exc:
            code = 1 if exc.errno == errno.EDQUOT else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 1}
    return code == 0


def test_so_much_and_no_more(disk: pathlib.Path) -> None:
    assert quota.missing(f"{disk}/not/yet") == ""
    one, other = container(disk, "one"), container(disk, "other")
    for folders in (one, other):
        quota.confine(folders, 8 * MIB, f"{disk}/lock")
    numbers = project_of(one[0]), project_of(other[0])
    assert project_of(one[1]) == numbers[0] != numbers[1]
    assert fits(one[1], 5 * MIB)
    assert not fits(one[0], 5 * MIB)
    assert fits(other[0], 5 * MIB)
    # Once more changes nothing but the limit.
    quota.confine(one, 12 * MIB, f"{disk}/lock")
    assert project_of(one[0]) == numbers[0]
    assert fits(one[0], 5 * MIB)
    # A layer that is there in place of another counts with all that it has; the number stays with the other.
    os.rename(one[0], disk / "kept")
    os.makedirs(f"{one[0]}/deep")
    pathlib.Path(one[0], "deep/file").write_bytes(b"x" * 5 * MIB)
    os.symlink("nowhere", f"{one[0]}/deep/link")
    quota.confine(one, 8 * MIB, f"{disk}/lock")
    assert project_of(f"{one[0]}/deep/file") == project_of(one[1]) not in {0, *numbers}
    assert not fits(f"{one[0]}/deep", 5 * MIB)
    last = project_of(one[0])
    for folder in (one[0], other[0]):
        quota.release(folder)
    assert fits(one[0], 5 * MIB)
    for root, _, names in os.walk(disk, topdown=False):
        for name in names:
            os.unlink(f"{root}/{name}")
    assert is_used(disk, last)  # by its folders
    for path in sorted((*disk.glob("o*/**/*"), disk / "kept"), reverse=True):
        path.rmdir()
    assert not any(is_used(disk, number) for number in (*numbers, last))


def test_a_folder_of_somebody_elses_project_is_none_of_ours(disk: pathlib.Path) -> None:
    """New folders inherit the number of the one above, whichever it is."""
    theirs = (1 << 30) + 5
    opened = os.open(disk, os.O_RDONLY)
    try:
        call.set_project(opened, theirs, inherited=True)
        call.set_limit(opened, theirs, 32 * MIB)
        folders = container(disk, "one")
        assert project_of(folders[0]) == theirs
        quota.release(folders[0])
        quota.confine(folders, 8 * MIB, f"{disk}/lock")
        assert project_of(folders[0]) not in {0, theirs}
        quota.release(folders[0])
        assert call.is_used(opened, theirs)
    finally:
        os.close(opened)
