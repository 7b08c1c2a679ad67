from __future__ import annotations

import os
import pathlib

import pytest

from devenv import errors
from devenv.spec import lockfile

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
IMAGES = {
    "docker.io/library/redis:7": lockfile.Locked(A, {"linux/arm64/v8": B, "linux/amd64": A}),
    "docker.io/library/postgres:16": lockfile.Locked(B, {}),
}


def test_what_is_written_is_read(tmp_path: pathlib.Path) -> None:
    assert lockfile.load(str(tmp_path)) == {}
    assert lockfile.save(str(tmp_path), IMAGES)
    assert lockfile.load(str(tmp_path)) == IMAGES
    assert not lockfile.save(str(tmp_path), dict(reversed(IMAGES.items())))
    assert lockfile.save(str(tmp_path), {})
    assert os.listdir(tmp_path) == []


def test_it_is_sorted_and_one_thing_a_line(tmp_path: pathlib.Path) -> None:
    lockfile.save(str(tmp_path), IMAGES)
    assert (tmp_path / "devenv.lock").read_text().splitlines()[1:] == [
        "version = 1",
        "",
        '[images."docker.io/library/postgres:16"]',
        f'digest = "{B}"',
        "",
        '[images."docker.io/library/redis:7"]',
        f'digest = "{A}"',
        "",
        '[images."docker.io/library/redis:7".platforms]',
        f'"linux/amd64" = "{A}"',
        f'"linux/arm64/v8" = "{B}"',
    ]


def test_it_is_a_file_like_any_other(tmp_path: pathlib.Path) -> None:
    before = os.umask(0o077)
    try:
        lockfile.save(str(tmp_path), IMAGES)
    finally:
        os.umask(before)
    assert (tmp_path / "devenv.lock").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("version = 1\nx =\n", 2, "Invalid value"),
        ("version = 1\n<<<<<<< HEAD\n", 2, "a merge left its marks"),
        ("version = 2\n", 1, "its version is `2`"),
        ("", 1, "its version is `None`"),
        ("version = 1\nimages = 3\n", 2, "`images` is not a table"),
        ('version = 1\n[images]\n"a" = 3\n', 3, "`a` is not a table"),
        ('version = 1\n\n[images."a:1"]\ndigest = "sha256:short"\n', 4, "the digest of `a:1`"),
        ('version = 1\n\n[images."a:1"]\n', 3, "the digest of `a:1`"),
        (f'version = 1\n[images."a:1"]\ndigest = "{A}"\nplatforms = 1\n', 2, "`platforms` of `a:1`"),
        (
            f'version = 1\n[images."a:1"]\ndigest = "{A}"\n[images."a:1".platforms]\n"linux/amd64" = "no"\n',
            5,
            "`linux/amd64` of `a:1`",
        ),
    ],
)
def test_what_is_broken_has_a_place(tmp_path: pathlib.Path, text: str, line: int, message: str) -> None:
    (tmp_path / "devenv.lock").write_text(text)
    with pytest.raises(errors.SpecError) as caught:
        lockfile.load(str(tmp_path))
    assert message in caught.value.message
    assert (caught.value.file, caught.value.line) == (f"{tmp_path}/devenv.lock", line)
    assert caught.value.hint
