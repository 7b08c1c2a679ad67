"""``--chmod``, by chmod(1) without a umask."""

from __future__ import annotations

import stat

import pytest

from devenv import errors
from devenv.build import modes

FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("755", FILE | 0o644, 0o755),
        ("0", FILE | 0o644, 0),
        ("4711", FILE | 0o644, 0o4711),
        ("u=rwX,go=rX", FILE | 0o600, 0o644),
        ("u=rwX,go=rX", FILE | 0o700, 0o755),
        ("u=rwX,go=rX", FOLDER | 0o600, 0o755),
        ("+x", FILE | 0o644, 0o755),
        ("a-w", FILE | 0o666, 0o444),
        ("g=u,o=", FILE | 0o754, 0o770),
        ("go=u-w", FILE | 0o755, 0o755),
        ("u+s,g+s", FILE | 0o755, 0o6755),
        ("+t", FOLDER | 0o777, 0o1777),
        ("u=", FILE | 0o4755, 0o055),
        ("o+w-r", FILE | 0o644, 0o642),
    ],
)
def test_change(text: str, before: int, after: int) -> None:
    assert oct(modes.read(text)(before)) == oct(after)


@pytest.mark.parametrize("text", ["99", "10000", "u+q", "u", "7x", "rwx", "u=rw,,g=r", ""])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(errors.BuildError, match="is no mode"):
        modes.read(text)
