from __future__ import annotations

import io
import json

import pytest

from devenv import events
from devenv.cli import options, table
from devenv.cli.display import jsonl, plain, quiet, sink, tty


def event(resource: str, status: str, text: str, details: str = "") -> events.Event:
    return events.Event(resource=resource, status=events.Status(status), text=text, details=details)


class Screen(io.StringIO):
    """A terminal of a given size that keeps only what a person would see in the end."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows

    def size(self, _stream: object) -> tuple[int, int]:
        return self.columns, self.rows

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        first, *parts = self.getvalue().replace("\x1b[K\n", "\n").split("\x1b[")
        lines = first.split("\n")[:-1]
        for part in parts:
            code, text = "", part
            for position, character in enumerate(part):
                if character.isalpha():
                    code, text = part[: position + 1], part[position + 1 :]
                    break
            if code.endswith("F"):
                del lines[len(lines) - int(code[:-1]) :]
            lines += text.split("\n")[:-1]
        return lines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def live(screen: Screen, clock: Clock, **more: bool) -> tty.Tty:
    return tty.Tty(screen, colour=False, now=clock, size=screen.size, animate=False, **more)


def test_tty_keeps_one_line_a_resource() -> None:
    screen, clock = Screen(), Clock()
    display = live(screen, clock)
    display.start("up")
    display.show(event("Network shop_default", "done", "Created"))
    display.show(event("Container shop-web-1", "working", "Starting"))
    clock.now = 1.25
    display.show(event("Container shop-web-1", "done", "Started", "config changed"))
    display.finish()
    assert screen.seen() == [
        "[+] up 2/2",
        " ✔ Network shop_default  Created  0.0s",
        " ✔ Container shop-web-1  Started  1.2s  config changed",
    ]
    assert screen.getvalue().endswith("\x1b[?25h")


def test_tty_fits_any_size() -> None:
    screen, clock = Screen(columns=30, rows=6), Clock()
    display = live(screen, clock)
    display.start("up")
    for number in range(20):
        display.show(event(f"Container a-very-long-name-{number}", "working", "Waiting", "for a long reason"))
    seen = screen.seen()
    assert len(seen) <= 6
    assert seen[-1] == "   17 more"
    assert all(table.width(line) < 30 for line in seen)


def test_tty_counts_rows_after_the_terminal_has_become_narrower() -> None:
    screen, clock = Screen(columns=60), Clock()
    display = live(screen, clock)
    display.show(event("Container " + "x" * 20, "working", "Starting", "y" * 60))
    screen.columns = 20
    screen.truncate(0)
    display.show(event("Container " + "x" * 20, "working", "Starting"))
    # The heading took one row; the 59 cells of the other line now take three.
    assert screen.getvalue().lstrip("\0").startswith("\x1b[4F")
    # What is left of them is cleared once the new lines stand, so that no frame scrolls into a terminal's history.
    assert screen.getvalue().endswith("\x1b[J")
    assert screen.getvalue().count("\x1b[J") == 1


def test_tty_shows_control_characters() -> None:
    screen, clock = Screen(), Clock()
    display = live(screen, clock)
    display.show(event("Container \x1b]0;x\x07", "error", "Error", "\x1b[2J"))
    assert "Container ^[]0;x^G" in screen.seen()[-1]
    assert "^[[2J" in screen.seen()[-1]


def test_tty_survives_a_terminal_that_is_gone() -> None:
    screen, clock = Screen(), Clock()
    display = live(screen, clock)
    screen.close()
    display.show(event("Container a", "working", "Starting"))
    display.finish()


def test_plain_prints_a_line_an_event_and_no_repetition() -> None:
    stream = io.StringIO()
    display = plain.Plain(stream)
    for _ in range(3):
        display.show(event("Container a", "working", "Waiting", "for `db`"))
    display.show(event("Container a", "done", "Started"))
    assert stream.getvalue() == " Container a  Waiting  for `db`\n Container a  Started\n"


def test_plain_marks_a_dry_run() -> None:
    stream = io.StringIO()
    plain.Plain(stream, dry_run=True).show(event("Container a", "done", "Created"))
    assert stream.getvalue() == " DRY-RUN MODE - Container a  Created\n"


def test_jsonl_has_docker_composes_fields() -> None:
    stream = io.StringIO()
    jsonl.JsonLines(stream).show(event("Container \x1b", "warning", "Waiting", "slow"))
    assert json.loads(stream.getvalue()) == {
        "id": "Container \x1b",
        "status": "Warning",
        "text": "Waiting",
        "details": "slow",
    }
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("progress", "ansi", "terminal", "term", "kind"),
    [
        ("auto", "auto", True, "xterm", tty.Tty),
        ("auto", "auto", False, "xterm", plain.Plain),
        ("auto", "never", True, "xterm", plain.Plain),
        ("auto", "auto", True, "dumb", plain.Plain),
        ("auto", "always", False, "xterm", tty.Tty),
        ("tty", "auto", False, "xterm", tty.Tty),
        ("plain", "always", True, "xterm", plain.Plain),
        ("json", "auto", True, "xterm", jsonl.JsonLines),
        ("quiet", "auto", True, "xterm", quiet.Quiet),
    ],
)
def test_choice(
    monkeypatch: pytest.MonkeyPatch, progress: str, ansi: str, terminal: bool, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    given = options.Globals(progress=options.Progress(progress), ansi=options.Ansi(ansi))
    assert type(sink.choose(given, Screen() if terminal else io.StringIO())) is kind
