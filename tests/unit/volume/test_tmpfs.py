from __future__ import annotations

import pytest

from devenv import errors
from devenv.volume import tmpfs

_DEFAULT = ("nosuid", "nodev", "noexec")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (*_DEFAULT, "mode=1777")),
        ("size=64m,mode=755", (*_DEFAULT, "size=67108864", "mode=755")),
        ("exec,size=50%", ("nosuid", "nodev", "exec", "size=50%", "mode=1777")),
        ("noexec,exec,noexec", (*_DEFAULT, "mode=1777")),
        ("rw,uid=1000,gid=0", (*_DEFAULT, "rw", "uid=1000", "gid=0", "mode=1777")),
        ("size=1.5GiB", (*_DEFAULT, "size=1610612736", "mode=1777")),
        ("ro, size=4096", (*_DEFAULT, "ro", "size=4096", "mode=1777")),
    ],
)
def test_short_form(text: str, expected: tuple[str, ...]) -> None:
    assert tmpfs.options(text) == expected


@pytest.mark.parametrize(
    "text",
    ["siz=1", "size=", "size=-1", "size=1x", "mode=9", "mode=17777777", "uid=-1", "uid=4294967295", "exec=1", "size"],
)
def test_refused(text: str) -> None:
    with pytest.raises(errors.VolumeError, match="tmpfs"):
        tmpfs.options(text)


def test_did_you_mean() -> None:
    with pytest.raises(errors.VolumeError) as caught:
        tmpfs.options("siez=1m")
    assert caught.value.hint == "did you mean `size`?"


def test_long_form() -> None:
    assert tmpfs.from_compose(size=None, mode=None) == (*_DEFAULT, "mode=1777")
    assert tmpfs.from_compose(size="2m", mode=0o755) == (*_DEFAULT, "size=2097152", "mode=755")
    assert tmpfs.from_compose(size=4096, mode="0700") == (*_DEFAULT, "size=4096", "mode=0700")
