"""Users and groups from an image's own files: who somebody is, and what those files may be.

CVE-2016-3697, CVE-2022-2989 and its kin, CVE-2022-36109, CVE-2024-40635, CVE-2026-30892, CVE-2026-47262.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.runtime import user

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
ann:x:1000:1000::/home/ann:/bin/sh
1000:x:0:0:a name that is a number:/root:/bin/sh
big:x:4294967296:4294967296::/big:/bin/sh
minus:x:-1:-1::/minus:/bin/sh
short:x:0
bob:x:1001:44:::
"""
GROUP = """\
root:x:0:
staff:x:50:ann
video:x:44:ann,bob
huge:x:4294967295:ann
1000:x:0:ann
"""


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def resolve(image: pathlib.Path) -> Iterator[Callable[..., user.User]]:
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    yield lambda text, additional=(): user.resolve(root, text, additional)
    os.close(root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, {0}, "/root")),
        ("root", (0, 0, {0}, "/root")),
        ("0", (0, 0, {0}, "/root")),
        # The primary group is always one of them, those that /etc/group names come with a user, not with a group.
        ("ann", (1000, 1000, {0, 44, 50, 1000}, "/home/ann")),
        ("1000", (1000, 1000, {0, 44, 50, 1000}, "/home/ann")),
        ("ann:video", (1000, 44, {44}, "/home/ann")),
        ("ann:7", (1000, 7, {7}, "/home/ann")),
        ("1000:1000", (1000, 1000, {1000}, "/home/ann")),
        ("bob", (1001, 44, {44}, "/")),
        # Without an entry the group is root's, as in Docker: it is a number and no more.
        ("1234", (1234, 0, {0}, "/")),
        ("1234:5678", (1234, 5678, {5678}, "/")),
        ("2147483647:2147483647", (2147483647, 2147483647, {2147483647}, "/")),
        # Not octal, not hexadecimal.
        ("010", (10, 0, {0}, "/")),
    ],
)
def test_who(resolve: Callable[..., user.User], text: str, expected: tuple[int, int, set[int], str]) -> None:
    found = resolve(text)
    assert (found.uid, found.gid, set(found.groups), found.home) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("4294967296", "4294967295", "2147483648", "2147483648:0", "0:4294967296", "-1", "+0", "0:-1", "99" * 20),
        *(
            "0x0",
            " 0",
            "0 ",
            "\u0660",
            "0\n",
            "nobody-there",
            "ann:nobody-there",
            "big",
            "minus",
            "short",
            "ann\n",
            "root:x",
        ),
    ],
)
def test_nobody(resolve: Callable[..., user.User], text: str) -> None:
    with pytest.raises(errors.ContainerError):
        resolve(text)


def test_more_groups(resolve: Callable[..., user.User]) -> None:
    assert set(resolve("1234", ["video", "60"]).groups) == {0, 44, 60}
    assert set(resolve("ann:7", ["1000"]).groups) == {7, 1000}, "a number, though there is a group of that name"
    with pytest.raises(errors.ContainerError):
        resolve("ann", ["-1"])


@pytest.mark.parametrize("kind", ["huge", "fifo", "link", "outside", "folder", "missing"])
def test_a_file_that_is_none(image: pathlib.Path, resolve: Callable[..., user.User], kind: str) -> None:
    """Nothing is waited for, read without end, or read outside the image."""
    passwd = image / "etc" / "passwd"
    passwd.unlink()
    if kind == "huge":
        # The end of it would name a user.
        with passwd.open("wb") as file:
            file.seek(2 << 30)
            file.write(b"\nann:x:1000:1000::/home/ann:/bin/sh\n")
    elif kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "link":
        passwd.symlink_to("/proc/self/environ")
    elif kind == "outside":
        outside = image.parent / f"{image.name}-outside"
        outside.write_text(PASSWD)
        passwd.symlink_to(f"../../../../../../../../../..{outside}")
    elif kind == "folder":
        passwd.mkdir()
    with pytest.raises(errors.ContainerError, match="no user `ann`"):
        resolve("ann")
    assert resolve("5").uid == 5


def test_the_specifications_numbers(image: pathlib.Path) -> None:
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    found = user.exactly(root, {"uid": 1000, "gid": 3, "additionalGids": [4]})
    assert found == (1000, 3, (4,), "/home/ann")
    os.close(root)


def test_by_the_layers_of_an_image(tmp_path: pathlib.Path) -> None:
    for name, passwd in (("top", None), ("middle", "app:x:12:34::/:\n"), ("bottom", "app:x:1:1::/:\n")):
        (tmp_path / name / "etc").mkdir(parents=True)
        if passwd:
            (tmp_path / name / "etc" / "passwd").write_text(passwd)
    layers = [str(tmp_path / name) for name in ("top", "middle", "bottom")]
    assert user.of_image(layers, "app")[:2] == (12, 34)
    assert user.of_image(layers, "77")[:2] == (77, 0)
    (tmp_path / "top" / "etc" / "passwd").symlink_to("/etc/passwd")  # itself: what is no file hides those below
    with pytest.raises(errors.ContainerError, match="no user `app`"):
        user.of_image(layers, "app")
