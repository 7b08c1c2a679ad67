from __future__ import annotations

import pytest

from devenv import errors
from devenv.util import detaching


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (detaching.DEFAULT, b"\x10\x11"),
        ("ctrl-@", b"\0"),
        ("ctrl-a,ctrl-Z", b"\x01\x1a"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("a,B,~,DEL", b"aB~\x7f"),
    ],
)
def test_keys_are_the_bytes_that_a_terminal_sends(text: str, expected: bytes) -> None:
    assert detaching.parse(text) == expected


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-ab", "ctrl-1", "alt-a", "ctrl-p,", "ab", "ü", "del"])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="detach-keys"):
        detaching.parse(text)


@pytest.mark.parametrize(
    ("sequence", "typed", "passed", "left"),
    [
        (b"\x10\x11", [b"ls\n"], b"ls\n", False),
        (b"\x10\x11", [b"a\x10\x11b"], b"a", True),
        (b"\x10\x11", [b"a\x10", b"\x11"], b"a", True),
        (b"\x10\x11", [b"\x10", b"x"], b"\x10x", False),
        (b"\x10\x11", [b"\x10", b"\x10", b"\x11"], b"\x10", True),
        (b"\x10\x11", [b"\x11\x10"], b"\x11", False),
        (b"aab", [b"aaab"], b"a", True),
        (b"abac", [b"abab", b"ac"], b"ab", True),
        (b"q", [b"xq"], b"x", True),
    ],
)
def test_keys_are_found_however_they_come(sequence: bytes, typed: list[bytes], passed: bytes, left: bool) -> None:
    keys = detaching.Keys(sequence)
    results = [keys.take(data) for data in typed]
    assert b"".join(data for data, _ in results) == passed
    assert [found for _, found in results] == [False] * (len(typed) - 1) + [left]
