"""apt's sources of this machine, in both formats, turned to another suite."""

from __future__ import annotations

import pathlib

import pytest

from devenv import errors
from devenv.image import aptsources

STANZAS = """\
# the archive
Types: deb deb-src
URIs: http://mirror.lan/debian/
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.lan/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://old.lan/debian
Suites: bookworm
Components: main
Enabled: no
"""
LINES = """\
deb [arch=amd64 signed-by=/k.gpg] http://mirror.lan/ubuntu jammy main universe  # a comment
deb-src http://mirror.lan/ubuntu jammy main
deb http://mirror.lan/ubuntu jammy-security main
#deb http://mirror.lan/ubuntu jammy-updates main
deb https://me:secret@mirror.lan/ubuntu jammy restricted
deb https://other.lan/tools stable main
"""


def written(folder: pathlib.Path) -> str:
    (folder / "sources.list.d").mkdir()
    (folder / "sources.list.d" / "debian.sources").write_text(STANZAS)
    (folder / "sources.list").write_text(LINES)
    return str(folder)


@pytest.mark.parametrize(
    ("distribution", "suite", "expected"),
    [
        (
            "debian",
            "bookworm",
            [
                "deb http://mirror.lan/debian/ bookworm main contrib",
                "deb http://mirror.lan/debian/ bookworm-updates main contrib",
                "deb http://mirror.lan/debian-security bookworm-security main",
            ],
        ),
        ("debian", "sid", ["deb http://mirror.lan/debian/ sid main contrib"]),
        (
            "ubuntu",
            "noble",
            ["deb http://mirror.lan/ubuntu noble main universe", "deb http://mirror.lan/ubuntu noble-security main"],
        ),
    ],
)
def test_sources_of_a_suite(tmp_path: pathlib.Path, distribution: str, suite: str, expected: list[str]) -> None:
    assert [str(each) for each in aptsources.of(distribution, suite, etc=written(tmp_path))] == expected


def test_without_any_a_mirror_is_to_be_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.ImageError, match="no mirror of ubuntu") as caught:
        aptsources.of("ubuntu", "noble", etc=str(tmp_path))
    assert "--mirror" in (caught.value.hint or "")
