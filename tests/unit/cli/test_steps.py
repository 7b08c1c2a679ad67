"""How a build looks, driven by what builds tell."""

from __future__ import annotations

import io
import json

import pytest

from devenv.build import progress
from devenv.cli import settings, table
from devenv.cli.display import steps, steps_jsonl, steps_plain, steps_tty
from tests.unit.cli.test_display import Clock, Screen

NAMES = {"a": "[web 1/3] WORKDIR /src", "b": "[web 2/3] RUN make", "c": "[db 1/1] COPY . ."}


def step(name: str, state: str, text: str = "", *, at: float = 0.0, current: int = 0, total: int = 0) -> progress.Step:
    return progress.Step(
        id=name, state=progress.State(state), name=NAMES[name], text=text, time=at, current=current, total=total
    )


RECORDED = [
    step("a", "cached"),
    step("b", "started"),
    step("b", "output", "cc -c ma", at=0.25),
    step("b", "output", "in.c\n", at=0.5),
    step("c", "started", at=0.5),
    step("b", "output", "one\ntwo\nthr", at=0.75),
    step("c", "done", at=1.0),
    step("b", "output", "ee\n", at=1.0),
    step("b", "done", at=1.25),
]


def plain(told: list[progress.Step]) -> str:
    stream = io.StringIO()
    display = steps_plain.Plain(stream)
    for each in told:
        display.tell(each)
    display.finish()
    return stream.getvalue()


def test_plain_is_as_buildkit_has_it() -> None:
    assert (
        plain(RECORDED)
        == """\
#1 [web 1/3] WORKDIR /src
#1 CACHED

#2 [web 2/3] RUN make
#2 0.500 cc -c main.c

#3 [db 1/1] COPY . .

#2 0.750 one
#2 0.750 two

#3 DONE 0.5s

#2 1.000 three
#2 DONE 1.2s
"""
    )


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ([step("b", "failed", "exit code 2")], "#1 ERROR exit code 2"),
        ([step("b", "started"), step("b", "canceled")], "#1 CANCELED"),
        ([step("b", "warning", "a word")], "#1 WARN a word"),
        ([step("b", "started"), step("b", "output", "no newline"), step("b", "done")], "#1 0.000 no newline"),
        ([step("b", "started"), step("b", "output", "10%\r50%\r100%\n")], "#1 0.000 100%"),
        ([step("b", "started"), step("b", "output", "dos\r\n")], "#1 0.000 dos"),
        ([step("b", "started"), step("b", "output", "\x1b]0;title\x07\n")], "#1 0.000 ^[]0;title^G"),
    ],
)
def test_plain_lines(told: list[progress.Step], line: str) -> None:
    assert line in plain(told).splitlines()


def live(screen: Screen, clock: Clock) -> steps_tty.Tty:
    return steps_tty.Tty(screen, colour=False, now=clock, size=screen.size, animate=False)


def test_a_running_step_shows_what_it_wrote_last() -> None:
    screen, clock = Screen(44, 24), Clock()
    display = live(screen, clock)
    for each in RECORDED[:6]:
        clock.now = each.time
        display.tell(each)
    display.tell(step("c", "progress", at=0.75, current=500, total=2000))
    clock.now = 0.75
    assert screen.seen() == [
        "[+] Building 0.8s  1/3",
        " ✔ [web 1/3] WORKDIR /src            cached",
        " ⠿ [web 2/3] RUN make                  0.8s",
        "     cc -c main.c",
        "     one",
        "     two",
        " ⠿ [db 1/1] COPY . .      500B of 2kB  0.2s",
    ]


def test_in_the_end_every_step_has_a_line() -> None:
    screen, clock = Screen(44, 4), Clock()
    display = live(screen, clock)
    for each in RECORDED:
        clock.now = each.time
        display.tell(each)
    assert len(screen.seen()) < 4
    display.finish()
    assert screen.seen() == [
        "[+] Building 1.2s  3/3",
        " ✔ [web 1/3] WORKDIR /src            cached",
        " ✔ [web 2/3] RUN make                  1.2s",
        " ✔ [db 1/1] COPY . .                   0.5s",
    ]


@pytest.mark.parametrize("columns", [10, 20, 80, 200])
@pytest.mark.parametrize("rows", [4, 5, 50])
def test_no_frame_is_larger_than_the_terminal(columns: int, rows: int) -> None:
    screen, clock = Screen(columns, rows), Clock()
    display = live(screen, clock)
    for each in RECORDED[:-1]:
        display.tell(each)
        assert len(screen.seen()) < rows
        assert all(table.width(line) < columns for line in screen.seen())


def test_json_has_what_was_told() -> None:
    stream = io.StringIO()
    display = steps_jsonl.JsonLines(stream)
    display.tell(RECORDED[2])
    assert json.loads(stream.getvalue()) == {
        "id": "b",
        "state": "output",
        "name": "[web 2/3] RUN make",
        "text": "cc -c ma",
        "time": 0.25,
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (settings.Progress.TTY, steps_tty.Tty),
        (settings.Progress.PLAIN, steps_plain.Plain),
        (settings.Progress.JSON, steps_jsonl.JsonLines),
        (settings.Progress.QUIET, steps.Quiet),
        (settings.Progress.AUTO, steps_plain.Plain),
    ],
)
def test_progress_chooses(kind: settings.Progress, expected: type[object]) -> None:
    assert isinstance(steps.choose(settings.Globals(progress=kind), io.StringIO()), expected)
