"""Numbers, durations, sizes and command lines."""

from __future__ import annotations

import pytest

from devenv.spec import scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"), ("12:30:45", "12:30:45"), ("NO", "NO"), ("on", "on"), ("y", "y"), ("2024-01-01", "2024-01-01"),
        ("true", True), ("False", False), ("~", None), ("", None), ("null", None), ("1e3", 1000.0), ("08", 8.0),
        ("0644", 420), ("0o644", 420), ("0x1F", 31), ("0b101", 5), ("-0x10", -16), ("1_000", 1000), ("+5", 5),
        (".5", 0.5), ("5.", 5.0), ("-", "-"), (".", "."), ("1.2.3", "1.2.3"), ("9" * 19, 9999999999999999999),
        ("9" * 25, 1e25), ("9" * 5000, "9" * 5000), ("1e400", "1e400"), ("0x", "0x"), ("1e", "1e"), ("١", "١"),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: object) -> None:
    found = scalars.resolve(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"), (3.20, "3.2"), (1e6, "1e+06"), (123456789.0, "1.23456789e+08"), (100000.0, "100000"),
        (0.0001, "0.0001"), (0.00001, "1e-05"), (1000.0, "1000"), (-2.5, "-2.5"), (True, "true"), (7, "7"), (0.0, "0"),
        (1e25, "1e+25"),
    ],
)  # fmt: skip
def test_numbers_as_text(value: object, text: str) -> None:
    assert scalars.show(value) == text


@pytest.mark.parametrize(
    ("text", "canonical", "seconds"),
    [
        ("90s", "1m30s", 90), ("1m30s", "1m30s", 90), ("500ms", "500ms", 0.5), ("1.5h", "1h30m0s", 5400), ("0", "0s", 0),
        ("2d", "48h0m0s", 172800), ("1w", "168h0m0s", 604800), ("1500us", "1.5ms", 0.0015), ("-5s", "-5s", -5),
        ("1h0.5s", "1h0m0.5s", 3600.5), ("10ns", "10ns", 1e-8), ("3µs", "3µs", 3e-6),
    ],
)  # fmt: skip
def test_durations(text: str, canonical: str, seconds: float) -> None:
    assert scalars.duration(text) == canonical
    assert scalars.seconds(canonical) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "s", "1m 30s", ".s", "-", "300000000h", "1e3s", "five"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        scalars.duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64m", 67108864), ("1g", 1073741824), ("1.5kb", 1536), ("12MiB", 12582912), ("100", 100), ("-1", -1), ("2 kb", 2048),
        (1024, 1024), ("5b", 5), ("1T", 1 << 40), ("1e3", 1000),
    ],
)  # fmt: skip
def test_sizes(text: int | str, size: int) -> None:
    assert scalars.size(text) == size


@pytest.mark.parametrize("text", ["", "m", "12q", "1e400g", "-5m", "1 2m", "5kbb", "0x10", "9999999p"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        scalars.size(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sh -c 'echo \"hi there\" && sleep 1'", ["sh", "-c", 'echo "hi there" && sleep 1']),
        ("", []),
        ('a "" b', ["a", "", "b"]),
        (r"a\ b c", ["a b", "c"]),
        ("echo $(date) x", ["echo", "$(date)", "x"]),
        ("echo a && echo b", ["echo", "a"]),
        ("cmd 2>/dev/null", ["cmd"]),
        ("echo `date now`", ["echo", "`date now`"]),
        ("multi\n  line", ["multi", "line"]),
        ("it'\"'s", ['it"s']),
    ],
)
def test_command_lines(line: str, words: list[str]) -> None:
    assert scalars.words(line) == words


@pytest.mark.parametrize("line", ["echo 'a", 'echo "a', "echo (a)", "echo a)", "a\\", "echo $(a"])
def test_broken_command_lines(line: str) -> None:
    with pytest.raises(ValueError, match="."):
        scalars.words(line)


def test_floats_of_32_bits() -> None:
    assert scalars.float32(0.1) == 0.1
    assert scalars.float32(0.123456789) == 0.12345679
    assert scalars.float32(16777217.0) == 16777216.0
    with pytest.raises(ValueError, match="number|large"):
        scalars.float32(1e39)
