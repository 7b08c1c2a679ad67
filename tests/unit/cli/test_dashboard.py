"""What of `devenv ui` needs no terminal."""

from __future__ import annotations

import pytest

from devenv.cli.dashboard import feed


def texts(lines: feed.Lines, **wanted: object) -> list[str]:
    return [line.text for line in lines.chosen(feed.Filter(**wanted))]  # type: ignore[arg-type]


def test_who_talks_much_takes_nothing_from_who_rarely_does() -> None:
    lines = feed.Lines()
    lines.add("db", "db-1", "ready")
    for number in range(feed.KEPT + 10):
        lines.add("web", "web-1", str(number))
    lines.add("db", "db-1", "over")
    kept = texts(lines)
    assert kept[0] == "ready"
    assert kept[-2:] == [str(feed.KEPT + 9), "over"]
    assert len(kept) == feed.KEPT + 2
    assert texts(lines, service="db") == ["ready", "over"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("", 4), ("error", 2), ("Error", 1), ("e[rx]+or", 2), ("[", 1), ("nothing", 0), ("32m", 0)],
)
def test_a_search_finds_text_and_no_colours(pattern: str, found: int) -> None:
    lines = feed.Lines()
    for text in ("an Error", "an error", "a [bracket", "\x1b[32mgreen\x1b[0m"):
        lines.add("web", "web-1", text)
    assert len(texts(lines, pattern=feed.pattern(pattern))) == found
