"""The quick start as a newcomer meets it: the guestbook, from `init` to `down`, as every kind of user."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import isolation, machine, projects, runner, terminal
from tests.support.polling import eventually

URL = "http://localhost:8080"


def ask(path: str, value: object = None) -> Any:
    data = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{URL}{path}", data), timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture
def guestbook(project: projects.Project) -> projects.Project:
    return project.copy(isolation.REPOSITORY / "templates" / "guestbook")


def test_from_the_first_command_to_the_last(anyone: runner.Devenv, guestbook: projects.Project) -> None:
    anyone("up", "-d", "--wait")

    rows = anyone.ps()
    assert {name: (row["State"], row["Health"]) for name, row in rows.items()} == {
        "guestbook-api-1": ("running", "healthy"),
        "guestbook-worker-1": ("running", ""),
        "guestbook-front-1": ("running", "healthy"),
    }
    with urllib.request.urlopen(f"{URL}/", timeout=10) as page:
        assert b"<title>Guestbook</title>" in page.read()
    assert ask("/api/entries", {"name": "Ada", "message": "one two three"}) == {"id": 1}
    # The worker takes it from the api by the service's name, and writes the count back.
    eventually(lambda: ask("/api/entries")["entries"][0]["words"] == 3)

    # An edit shows in the very next answer.
    for greeting in ("First edit", "Second edit"):
        guestbook.edit(r'^GREETING = ".*"', f'GREETING = "{greeting}"', "api/api.py")
        assert ask("/api/entries")["greeting"] == greeting

    # Stopping and starting again keeps the data, and so does taking it down and bringing it up.
    anyone("stop")
    anyone("start", "--wait")
    assert ask("/api/entries")["entries"][0]["name"] == "Ada"
    anyone("down")
    assert anyone.ps() == {}
    anyone("up", "-d", "--wait")
    assert ask("/api/entries")["entries"][0]["name"] == "Ada"

    anyone("down", "-v")
    anyone("up", "-d", "--wait")
    assert ask("/api/entries")["entries"] == []
    anyone("down", "-v")


def test_the_source_is_read_only_inside(devenv: runner.Devenv, guestbook: projects.Project) -> None:
    devenv("up", "-d", "--wait")
    result = devenv("exec", "-T", "api", "sh", "-c", "echo broken >/app/api/api.py", code=None)
    assert result.returncode != 0
    assert "Read-only file system" in result.stderr
    assert "GREETING" in (guestbook / "api" / "api.py").read_text()


def test_init_then_up(devenv: runner.Devenv) -> None:
    devenv("init", "guestbook", "mine")
    devenv.cwd = f"{devenv.folder}/mine"
    devenv("up", "-d", "--wait")
    assert ask("/api/entries")["entries"] == []


@machine.needs_binary("tmux")
def test_attached_it_prints_its_address_and_ctrl_c_stops_it(
    devenv: runner.Devenv, guestbook: projects.Project, terminal_for: Callable[..., terminal.Terminal]
) -> None:
    screen = terminal_for(devenv, "up")
    address = screen.wait_for(r"open (http://localhost:\d+)/", timeout=30)[1]
    assert address == URL
    assert ask("/api/entries")["entries"] == []
    screen.send("C-c")
    assert screen.wait_for_exit(timeout=30) in {0, 130}
    assert {row["State"] for row in devenv.ps().values()} == {"exited"}


def test_dev_up_is_the_quick_start(devenv: runner.Devenv) -> None:
    """`./dev up` in a fresh clone; the environment that the tests run in stands in for the one it would make."""
    clone = f"{devenv.folder}/clone"
    shutil.copytree(
        isolation.REPOSITORY,
        clone,
        ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache"),
        symlinks=True,
    )
    (virtual := pathlib.Path(clone, ".venv", "bin")).mkdir(parents=True)
    for name in ("python", "devenv"):
        (virtual / name).symlink_to(f"{runner.own_command().removesuffix('devenv')}{name}")
    shutil.copyfile(f"{clone}/pyproject.toml", f"{clone}/.venv/.dev-stamp")
    devenv.cwd = f"{clone}/templates/guestbook"
    before = sorted(os.listdir(devenv.cwd))
    done = subprocess.run(
        [f"{clone}/dev", "up", "-d", "--wait"],
        env=devenv.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    devenv.remember()
    assert ask("/api/entries")["entries"] == []
    assert sorted(os.listdir(devenv.cwd)) == before
