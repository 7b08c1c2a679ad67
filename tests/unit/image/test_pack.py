"""The tar stream of a layer: what is written quickly is what tarfile writes."""

from __future__ import annotations

import tarfile

import pytest

from devenv.image import pack


def _made(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "made",
    [
        _made("etc/motd", mode=0o644, size=7, mtime=1_600_000_000),
        _made("usr/bin/sudo", mode=0o4755, uid=2_000_000, gid=5, size=8**11 - 1, mtime=8**11 - 1),
        _made("etc", type=tarfile.DIRTYPE, mode=0o1777),
        _made("x" * 99, type=tarfile.DIRTYPE),
        _made("x" * 100, type=tarfile.DIRTYPE),
        _made("x" * 98, type=tarfile.DIRTYPE),
        _made("bin/sh", type=tarfile.SYMTYPE, linkname="busybox", mode=0o777),
        _made("bin/ls", type=tarfile.LNKTYPE, linkname="bin/busybox"),
        _made("run/pipe", type=tarfile.FIFOTYPE),
        _made("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        _made("x" * 200),
        _made("straße"),
        _made("big", size=8**11),
        _made("old", mtime=-1),
        _made("owned", uid=8**7),
    ],
    ids=lambda made: f"{made.name[:12]}-{len(made.name)}",
)
def test_a_header_is_what_tarfile_makes_of_it(made: tarfile.TarInfo) -> None:
    assert pack._header(made) == made.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
