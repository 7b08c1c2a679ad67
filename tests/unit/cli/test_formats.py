from __future__ import annotations

import pytest

from devenv import errors
from devenv.cli import formats, table, terminal


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (61 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (731 * 86400, "2 years"),
    ],
)
def test_duration_uses_go_units_words(seconds: float, words: str) -> None:
    assert formats.duration(seconds) == words


@pytest.mark.parametrize(
    ("state", "health", "exit_code", "words"),
    [
        ("running", "", None, "Up 3 minutes"),
        ("running", "healthy", None, "Up 3 minutes (healthy)"),
        ("running", "unhealthy", None, "Up 3 minutes (unhealthy)"),
        ("running", "starting", None, "Up 3 minutes (health: starting)"),
        ("paused", "healthy", None, "Up 3 minutes (Paused)"),
        ("exited", "", 1, "Exited (1) 2 seconds ago"),
        ("exited", "", None, "Exited (255) 2 seconds ago"),
        ("restarting", "", 137, "Restarting (137) 2 seconds ago"),
        ("created", "", None, "Created"),
    ],
)
def test_status(state: str, health: str, exit_code: int | None, words: str) -> None:
    found = formats.status(state, now=1000.0, started=1000.0 - 180, finished=998.0, exit_code=exit_code, health=health)
    assert found == words


def _port(host: str, target: int, published: int, protocol: str = "tcp") -> dict[str, object]:
    return {"URL": host, "TargetPort": target, "PublishedPort": published, "Protocol": protocol}


def test_ports_join_neighbours_and_bracket_ipv6() -> None:
    ports = [_port("0.0.0.0", 80, 8080), _port("0.0.0.0", 81, 8081), _port("::", 80, 8080), _port("", 9000, 0)]
    assert formats.ports(ports) == "0.0.0.0:8080-8081->80-81/tcp, [::]:8080->80/tcp, 9000/tcp"


def test_ports_keep_protocols_apart() -> None:
    assert formats.ports([_port("127.0.0.1", 53, 53, "udp"), _port("127.0.0.1", 53, 53)]) == (
        "127.0.0.1:53->53/tcp, 127.0.0.1:53->53/udp"
    )


def test_command_is_cut_and_quoted() -> None:
    assert formats.command(["docker-entrypoint.sh", "postgres"], truncate=True) == '"docker-entrypoint.s…"'
    assert formats.command(["echo", 'a"b'], truncate=False) == '"echo a\\"b"'


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1h30m", 5400), ("1.5m", 90), ("100ms", 0.1), ("2d", 172800)]
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert formats.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "10x", "1h 30m", "-5s"])
def test_parse_duration_refuses(text: str) -> None:
    assert formats.parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", 400.0),
        ("1700000000", 1700000000.0),
        ("1700000000.5", 1700000000.5),
        ("2023-11-14T22:13:20Z", 1700000000.0),
        ("2023-11-14T22:13:20.123456789Z", 1700000000.123456),
        ("2023-11-14T23:13:20+01:00", 1700000000.0),
    ],
)
def test_moment(text: str, expected: float) -> None:
    assert formats.moment(text, now=1000.0, option="--since") == pytest.approx(expected)


def test_moment_refuses_with_a_hint() -> None:
    with pytest.raises(errors.UsageError, match="--since") as caught:
        formats.moment("yesterday", now=0.0, option="--since")
    assert caught.value.hint is not None


@pytest.mark.parametrize(("text", "expected"), [("10", 10.0), ("0", 0.0), ("1m30s", 90.0), (None, None)])
def test_seconds_or_duration(text: str | None, expected: float | None) -> None:
    assert formats.seconds_or_duration(text, option="--timeout") == expected


@pytest.mark.parametrize("text", ["-1", "x", "nan", "inf"])
def test_seconds_or_duration_refuses(text: str) -> None:
    with pytest.raises(errors.UsageError):
        formats.seconds_or_duration(text, option="--timeout")


def test_elapsed() -> None:
    assert formats.elapsed(1.25) == "1.2s"
    assert formats.elapsed(62.5) == "1m 02.5s"


def test_table_aligns_wide_characters_and_shows_controls() -> None:
    text = table.render(("NAME", "X"), [("日本", "1"), ("a\x1b[2Jb", "2")])
    assert text == "NAME      X\n日本      1\na^[[2Jb   2\n"


def test_cut_counts_cells() -> None:
    assert table.cut("abcdef", 4) == "abc…"
    assert table.cut("日本語", 4) == "日…"
    assert table.cut("abc", 3) == "abc"


def test_visible_neutralises_escape_sequences() -> None:
    assert terminal.visible("a\x1b]52;c;eA==\x07\rb\x9b31m\x7f\t") == "a^[]52;c;eA==^G^Mb\\x9b31m^?\t"


def test_visible_log_keeps_colours_only() -> None:
    assert terminal.visible_log("\x1b[31mred\x1b[2J\x1b]0;t\x07") == "\x1b[31mred^[[2J^[]0;t^G\x1b[0m"
    assert terminal.without_colours("\x1b[31mred\x1b[0m") == "red"
