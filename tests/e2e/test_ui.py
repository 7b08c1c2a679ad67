"""`devenv ui` on a real terminal, with real services."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import pytest

from tests.support import engine, projects, runner, terminal
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
name: shop
services:
  db:
    image: "host:"
    command: [sh, -c, "echo database is ready; exec sleep 1000"]
    stop_signal: SIGKILL
  web:
    image: "host:"
    command:
      - sh
      - -c
      - for n in 1 2 3; do echo "line $$n"; done; printf "\\033[2J\\033]0;stolen\\a\\n"; exec sleep 1000
    stop_signal: SIGKILL
"""


def test_a_day_with_it(
    devenv: runner.Devenv, project: projects.Project, terminal_for: Callable[..., terminal.Terminal]
) -> None:
    project.write(SPEC)
    screen = terminal_for(devenv, "ui", columns=110, rows=30)
    screen.wait_for(r"^ shop +0 of 2 running")
    screen.wait_for(r"^ db +not created")
    screen.send("p")
    screen.wait_for(r"container\.create +service:db:1")
    screen.send("q")  # closes the page alone
    screen.send("u")
    screen.wait_for(r"^ shop +2 of 2 running")
    screen.wait_for(r"^db-1 \| database is ready")
    # What services write does nothing to the screen.
    screen.wait_for(r"^web-1 \| \^\[\[2J\^\[\]0;stolen\^G")
    assert "stolen" not in screen.title()

    screen.send("s")  # the first row is db
    screen.wait_for(r"^ db-1 +Exited")
    assert devenv.ps()["shop-db-1"]["State"] == "exited"
    screen.send("s")
    screen.wait_for(r"^ db-1 +Up ")
    screen.send("Down")
    screen.send("l")
    screen.wait_for(r"^ logs of web$")
    eventually(lambda: "database is ready" not in screen.screen(), 10)
    screen.send("/")
    screen.type("line [23]")
    screen.wait_for(r"with 'line \[23\]'")
    eventually(lambda: re.findall(r"line \d", screen.screen()) == ["line 2", "line 3"], 10)
    screen.send("Escape")
    screen.wait_for(r"^ logs of web$")

    screen.send("e")
    screen.wait_for(r"[#$] *$")
    screen.type("echo here $((6 * 7)); exit")
    screen.wait_for(r"^ shop +2 of 2 running")
    killed = engine.find(devenv, "supervisor")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    devenv_before = devenv.ps()["shop-web-1"]["ID"]
    screen.send("r")
    screen.wait_for(r"devenv \| +Container shop-web-1 +Started")
    assert devenv.ps()["shop-web-1"]["ID"] == devenv_before

    project.write(SPEC.replace("command:", "comand:", 1))
    screen.send("u")
    screen.wait_for(r"comand")
    project.write(SPEC + "  more: {image: 'host:'\n")
    screen.wait_for(r"^ \S*devenv\.yaml:\d+:\d+: ")
    project.write(SPEC + "  more: {image: 'host:'}\n")
    screen.wait_for(r"^ more +not created")

    screen.resize(40, 15)
    screen.wait_for(r"^ web-1 +Up ")
    screen.send("?")
    screen.wait_for(r"choose a service")
    screen.send("q")
    screen.send("C-c")
    assert screen.wait_for_exit() == 0
    assert set(devenv.ps()) == {"shop-db-1", "shop-web-1"}


@pytest.mark.parametrize("term", ["dumb", ""])
def test_where_it_can_show_nothing_it_says_so(
    devenv: runner.Devenv, project: projects.Project, terminal_for: Callable[..., terminal.Terminal], term: str
) -> None:
    project.write(SPEC)
    assert "`devenv ui` needs a terminal" in devenv("ui", code=2).stderr
    screen = terminal_for(devenv, "ui", term=term)
    screen.wait_for("can't place text on its screen")
    assert screen.wait_for_exit() == 2
