"""attach: on a real terminal and on pipes, with several clients, and what ends it or doesn't."""

from __future__ import annotations

import os
import pathlib
import re
import select
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support import machine, polling, projects, runner, terminal

READER = 'while read -r line; do echo "out $$line"; echo "err $$line" >&2; test "$$line" = bye && exit 7; done'
DRAWER = 'trap "stty size" WINCH; while :; do sleep 0.1; done'
TICKER = 'trap "echo caught; exit 5" USR1; while :; do echo tick; sleep 0.1; done'

SPEC = f"""
    name: joined
    services:
      term:
        image: "host:"
        tty: true
        stop_grace_period: 0s
        command: [bash, -c, {READER!r}]
      draw:
        image: "host:"
        tty: true
        stop_grace_period: 0s
        command: [bash, -c, {DRAWER!r}]
      pipe:
        image: "host:"
        stdin_open: true
        restart: always
        stop_grace_period: 0s
        command: [bash, -c, {READER!r}]
      tick:
        image: "host:"
        stop_grace_period: 0s
        command: [bash, -c, {TICKER!r}]
      flood:
        image: "host:"
        stop_grace_period: 0s
        logging: {{options: {{max-size: 200m}}}}
        command: [bash, -c, 'while :; do head -c 20000 /dev/zero | tr \\\\0 x; echo; sleep 0.01; done']
    """

Opener = Callable[..., terminal.Terminal]


@pytest.fixture
def joined(devenv: runner.Devenv, project: projects.Project) -> Iterator[runner.Devenv]:
    project.write(SPEC)
    yield devenv
    devenv("down", "-t", "0")


def state(devenv: runner.Devenv, service: str) -> str:
    return str(devenv.ps()[f"joined-{service}-1"]["State"])


def attach(devenv: runner.Devenv, *arguments: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return devenv.start("attach", *arguments, stdin=pipe, stderr=pipe, text=False)  # type: ignore[return-value]


def say(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()


def heard(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.readline().decode().strip(), process.stderr.readline().decode().strip()


def close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


# -- terminals ---------------------------------------------------------------------------------------------------------


@machine.needs_binary("tmux")
def test_two_terminals_share_one_and_leaving_ends_nothing(
    anyone: runner.Devenv, project: projects.Project, terminal_for: Opener
) -> None:
    project.write(SPEC)
    anyone("up", "-d", "term")
    first, second = (terminal_for(anyone, "attach", "term") for _ in range(2))
    for screen in (first, second):
        screen.wait_for("^Attached to term-1; ctrl-p,ctrl-q detaches")
    first.type("hello")
    for screen in (first, second):
        screen.wait_for("^out hello")
    first.send("C-p", "C-q")
    first.wait_for("^Detached from term-1, which runs on")
    assert first.wait_for_exit() == 0
    assert state(anyone, "term") == "running"
    second.type("again")
    second.wait_for("^err again")
    second.type("bye")
    assert second.wait_for_exit() == 7
    assert "again" not in first.screen()
    anyone("down")


@machine.needs_binary("tmux")
def test_the_container_has_the_size_of_who_came_last_and_draws_anew(
    joined: runner.Devenv, terminal_for: Opener
) -> None:
    joined("up", "-d", "draw")
    for keys in ("ctrl-x,d", "ctrl-]"):  # the second one comes with a size that is there already
        screen = terminal_for(joined, "attach", "--detach-keys", keys, "draw")
        screen.wait_for("^30 100")
        screen.resize(61, 17)
        screen.wait_for("^17 61")
        screen.resize(100, 30)
        screen.wait_for(r"^30 100\n(?s:.*)^17 61\n(?s:.*)^30 100")
        screen.send(*(("C-x", "d") if keys.startswith("ctrl-x") else ("C-]",)))
        assert screen.wait_for_exit() == 0
    assert state(joined, "draw") == "running"


@machine.needs_binary("tmux")
def test_a_window_that_is_closed_ends_nothing(joined: runner.Devenv, terminal_for: Opener) -> None:
    joined("up", "-d", "term")
    screen = terminal_for(joined, "attach", "term")
    screen.wait_for("^Attached")
    screen.type("once")
    screen.wait_for("^out once")
    screen.close()
    polling.always(lambda: state(joined, "term") == "running", 1)
    assert joined("logs", "--no-log-prefix", "term").stdout.count("out once") == 1


def test_a_terminal_is_only_typed_to_from_one(joined: runner.Devenv) -> None:
    joined("up", "-d", "term")
    done = joined("attach", "term", code=2, input="bye\n")
    assert "--no-stdin" in done.stderr
    watcher = attach(joined, "--no-stdin", "term")
    shown = watcher.stdout
    assert shown is not None

    def is_shown() -> bool:
        joined.inside("term", "echo shown >/proc/1/fd/1")
        return bool(select.select([shown], [], [], 0.2)[0])

    polling.eventually(is_shown)
    watcher.send_signal(signal.SIGTERM)  # the terminal's own keys are what reaches the container
    assert watcher.wait(20) == 128 + signal.SIGTERM
    close(watcher)
    assert state(joined, "term") == "running"


# -- pipes -------------------------------------------------------------------------------------------------------------


def test_streams_stay_apart_and_all_get_the_code_of_this_run(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    anyone("up", "-d", "pipe")
    first = attach(anyone, "pipe")
    say(first, "one")
    assert heard(first) == ("out one", "err one")
    assert first.stdin is not None
    first.stdin.close()  # the end of ours is not the end of the container's
    second = attach(anyone, "--index", "1", "pipe")
    say(second, "two")
    assert heard(first) == heard(second) == ("out two", "err two")
    say(second, "bye")
    assert first.wait(30) == second.wait(30) == 7
    for process in (first, second):
        close(process)
    # Its policy has brought it back, and that one is another run.
    polling.eventually(lambda: state(anyone, "pipe") == "running")
    anyone("down")


@pytest.mark.parametrize("env", [{}, {"DEVENV_SLOW": "1"}])
def test_signals_are_the_containers_unless_told_otherwise(joined: runner.Devenv, env: dict[str, str]) -> None:
    joined("up", "-d", "tick")
    alone = joined.start("attach", "--sig-proxy=false", "tick", stderr=subprocess.DEVNULL, env=env)
    assert alone.stdout is not None
    assert alone.stdout.readline() == "tick\n"
    alone.send_signal(signal.SIGINT)
    assert alone.wait(20) == 128 + signal.SIGINT
    alone.stdout.close()
    assert state(joined, "tick") == "running"
    passing = joined.start("attach", "tick", stderr=subprocess.DEVNULL, env=env)
    assert passing.stdout is not None
    assert passing.stdout.readline() == "tick\n"
    passing.send_signal(signal.SIGUSR1)
    assert passing.stdout.read().endswith("caught\n")
    assert passing.wait(20) == 5
    passing.stdout.close()


def test_who_stops_reading_is_waited_for_until_he_goes(joined: runner.Devenv) -> None:
    joined("up", "-d", "flood", "tick")
    process = joined.start("attach", "flood", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.read(1) == "x"

    def size() -> int:
        (log,) = (path for path in pathlib.Path(joined.data).glob("containers/[!.]*/logs/*.log") if is_flood(path))
        return log.stat().st_size

    def is_flood(path: pathlib.Path) -> bool:
        with open(path, "rb") as file:
            return b"xxx" in file.read(1000)

    def stands_still() -> bool:
        before = size()
        polling.always(lambda: size() == before, 0.5)
        return True

    polling.eventually(stands_still, 20)
    # Nobody else waits: the other container's lines still come.
    other = joined.start("logs", "-f", "-n", "0", "tick")
    assert other.stdout is not None
    assert "tick" in other.stdout.readline()
    other.kill()
    other.wait()
    other.stdout.close()
    stopped = size()
    process.stdout.close()
    process.kill()
    process.wait()
    polling.eventually(lambda: size() > stopped, 20)


def test_a_monitor_that_is_killed_is_told_and_the_next_attach_works(joined: runner.Devenv) -> None:
    joined("up", "-d", "pipe")
    process = attach(joined, "pipe")
    say(process, "before")
    assert heard(process) == ("out before", "err before")
    (log,) = pathlib.Path(joined.run_directory).glob("projects/*/monitor.log")
    os.kill(int(re.findall(r"monitor (\d+) of", log.read_text())[-1]), signal.SIGKILL)
    assert process.wait(30) == 1
    assert process.stderr is not None
    assert b"monitor has gone away" in process.stderr.read()
    close(process)
    again = attach(joined, "pipe")
    say(again, "after")
    assert heard(again) == ("out after", "err after")
    say(again, "bye")
    assert again.wait(30) == 7
    close(again)


# -- what it refuses ---------------------------------------------------------------------------------------------------


def test_what_can_not_be_attached_to_is_told(joined: runner.Devenv) -> None:
    joined("create", "pipe")
    joined("up", "-d", "tick")
    assert "no such service: `pip`" in joined("attach", "pip", code=2).stderr
    assert "service `pipe` is not running: it is created" in joined("attach", "pipe", code=1).stderr
    assert "service `tick` number 4 has no container" in joined("attach", "--index", "4", "tick", code=1).stderr
    assert "`alt-x`" in joined("attach", "--detach-keys", "alt-x", "tick", code=2).stderr
    joined("pause", "tick")
    assert "devenv unpause tick" in joined("attach", "tick", code=1).stderr
    joined("unpause", "tick")
    watcher = attach(joined, "tick")
    assert watcher.stderr is not None
    assert b"stdin_open: true" in watcher.stderr.readline()
    joined("kill", "-s", "USR1", "tick")
    assert watcher.wait(20) == 5
    close(watcher)


def test_by_the_containers_name_from_anywhere(joined: runner.Devenv) -> None:
    joined("up", "-d", "pipe")
    done = joined("container", "attach", "joined-pipe-1", input="bye\n", cwd="/", code=7)
    assert done.stdout == "out bye\n"
    assert done.stderr == "err bye\n"
    assert "no container `joined-nil-1`" in joined("container", "attach", "joined-nil-1", code=1).stderr
