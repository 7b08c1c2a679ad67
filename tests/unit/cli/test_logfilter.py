from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from devenv import errors
from devenv.cli import logfilter
from devenv.runtime import logs


class Record(NamedTuple):
    id: str


class Container(NamedTuple):
    record: Record


def passed(text: str, *lines: tuple[str, bytes, bool], ignore_case: bool = False) -> bytes:
    shown: list[bytes] = []
    found = logfilter.Filter(
        logfilter.pattern(text, ignore_case=ignore_case),
        lambda _container, line: shown.append(line.data if line.partial else line.data + b"\n"),
    )
    for name, data, partial in lines:
        container: Any = Container(Record(name))
        found.line(container, logs.Line("2026-01-01T00:00:00.000000000Z", "stdout", data, partial))
    return b"".join(shown)


def test_whole_lines() -> None:
    assert passed("b.r", ("a", b"foo", False), ("a", b"a bar", False), ("b", b"BAR", False)) == b"a bar\n"
    assert passed("b.r", ("b", b"BAR", False), ignore_case=True) == b"BAR\n"


def test_a_line_in_pieces_is_one_line() -> None:
    pieces = (("a", b"one ne", True), ("b", b"other", False), ("a", b"edle two", False), ("a", b"three", False))
    assert passed("needle", *pieces) == b"one needle two\n"


def test_a_line_without_end_is_held_in_bounds() -> None:
    flood = [("a", b"x" * 16384, True)] * 10
    assert len(passed("x", *flood)) == 10 * 16384
    assert passed("y", *flood, ("a", b"y", False), ("a", b"y", False)) == b"y\n"


def test_no_pattern() -> None:
    with pytest.raises(errors.UsageError, match="no regular expression"):
        logfilter.pattern("(", ignore_case=False)
