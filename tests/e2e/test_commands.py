"""The commands around `up`, as they are typed: what they do, print and exit with."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support import machine, projects, runner, terminal
from tests.support.polling import eventually

pytestmark = pytest.mark.root

TWO = """
    name: shop
    services:
      web:
        image: "host:"
        command: [sh, -c, "echo one; echo two >&2; echo three; exec sleep 1000"]
        stop_signal: SIGKILL
        environment: {COLOUR: red}
      db:
        image: "host:"
        command: [sh, -c, "echo ready; exec sleep 1000"]
        stop_signal: SIGKILL
"""


@pytest.fixture
def two(devenv: runner.Devenv, project: projects.Project) -> projects.Project:
    project.write(TWO)
    devenv("up", "-d")
    eventually(lambda: len(devenv("logs").stdout.splitlines()) == 4)
    return project


def states(devenv: runner.Devenv) -> dict[str, str]:
    return {name: row["State"] for name, row in devenv.ps().items()}


@pytest.mark.usefixtures("two")
def test_ps_has_docker_composes_fields(devenv: runner.Devenv) -> None:
    row = devenv.ps()["shop-web-1"]
    expected = {"ID", "Name", "Names", "Image", "Command", "Project", "Service", "State", "Status", "Health"}
    assert expected | {"ExitCode", "Publishers", "Ports", "Labels", "CreatedAt", "RunningFor"} <= set(row)
    assert (row["Project"], row["Service"], row["State"], row["ExitCode"]) == ("shop", "web", "running", 0)
    assert {line[:12] for line in devenv("ps", "-q").stdout.split()} == {row["ID"] for row in devenv.ps().values()}
    assert devenv("ps", "--services").stdout.split() == ["db", "web"]
    header, *lines = devenv("ps").stdout.splitlines()
    assert header.split() == ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    assert [line.split()[0] for line in lines] == ["shop-db-1", "shop-web-1"]


def test_ls_lists_projects(devenv: runner.Devenv, two: projects.Project) -> None:
    (found,) = devenv.json("ls")
    assert (found["Name"], found["Status"]) == ("shop", "running(2)")
    assert found["ConfigFiles"] == str(two / "devenv.yaml")


@pytest.mark.usefixtures("two")
def test_logs(devenv: runner.Devenv) -> None:
    assert sorted(devenv("logs", "--no-log-prefix", "web").stdout.splitlines()) == ["one", "three", "two"]
    # Two streams have no order between them.
    assert devenv("logs", "--no-log-prefix", "--tail", "1", "web").stdout in {"two\n", "three\n"}
    assert all("|" in line for line in devenv("logs").stdout.splitlines())
    stamped = devenv("logs", "-t", "--no-log-prefix", "db").stdout
    assert stamped.endswith("Z ready\n")
    assert devenv("logs", "--since", "10m", "--no-log-prefix", "db").stdout == "ready\n"
    assert devenv("logs", "--until", "10m", "db").stdout == ""
    assert devenv("logs", "nobody", code=2).stdout == ""


@pytest.mark.usefixtures("two")
def test_logs_can_be_followed(devenv: runner.Devenv) -> None:
    follower = devenv.start("logs", "-f", "--no-log-prefix", stderr=subprocess.DEVNULL)
    try:
        assert follower.stdout is not None
        lines = sorted(follower.stdout.readline() for _ in range(4))
        assert lines == ["one\n", "ready\n", "three\n", "two\n"]
        devenv("restart", "db")
        assert follower.stdout.readline() == "ready\n"
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 130
        assert follower.stdout is not None
        follower.stdout.close()


@pytest.mark.usefixtures("two")
def test_exec(devenv: runner.Devenv) -> None:
    def inside(*words: str, code: int = 0) -> str:
        return str(devenv("exec", "-T", *words, code=code).stdout)

    assert inside("web", "printenv", "COLOUR") == "red\n"
    assert inside("-e", "COLOUR=blue", "web", "printenv", "COLOUR") == "blue\n"
    assert inside("-u", "1000:1000", "web", "id", "-u") == "1000\n"
    assert inside("-w", "/usr", "web", "pwd") == "/usr\n"
    assert inside("--index", "1", "web", "hostname").strip() == devenv.ps()["shop-web-1"]["ID"][:12]
    inside("web", "sh", "-c", "exit 3", code=3)
    inside("web", "sh", "-c", "kill -9 $$", code=137)
    inside("web", "no-such-program", code=127)
    inside("web", "/etc/passwd", code=126)
    assert devenv("exec", "-T", "web", "cat", input="through\n").stdout == "through\n"
    both = devenv("exec", "-T", "web", "sh", "-c", "echo out; echo err >&2")
    assert (both.stdout, both.stderr) == ("out\n", "err\n")
    devenv("exec", "-d", "web", "sh", "-c", "touch /made; sleep 1000")
    eventually(lambda: devenv("exec", "-T", "web", "test", "-e", "/made", code=None).returncode == 0)
    missing = devenv("exec", "-T", "nobody", "true", code=2)
    assert "nobody" in missing.stderr


@pytest.mark.usefixtures("two")
def test_exec_without_the_supervisors_help(devenv: runner.Devenv) -> None:
    slow = {"DEVENV_SLOW": "1"}
    assert devenv("exec", "-T", "web", "printenv", "COLOUR", env=slow).stdout == "red\n"
    assert len(devenv("ps", "-q", env=slow).stdout.split()) == 2


@machine.needs_binary("tmux")
@pytest.mark.usefixtures("two")
def test_exec_has_a_terminal_that_can_be_resized(
    devenv: runner.Devenv, terminal_for: Callable[..., terminal.Terminal]
) -> None:
    script = "trap 'stty size' WINCH; tty; stty size; while ! read x; do :; done; exit 5"
    screen = terminal_for(devenv, "exec", "web", "bash", "-c", script)
    screen.wait_for(r"/dev/pts/\d+", timeout=10)
    screen.wait_for(r"30 100", timeout=10)
    screen.resize(61, 17)
    screen.send("Enter")
    screen.wait_for(r"17 61", timeout=10)
    assert screen.wait_for_exit(timeout=10) == 5


def test_run(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(TWO)
    result = devenv("run", "--rm", "-T", "-e", "A=1", "web", "sh", "-c", "echo $A $COLOUR; exit 4", code=4)
    assert result.stdout == "1 red\n"
    assert devenv.ps() == {}
    assert devenv("run", "--rm", "-T", "web", "cat", input="in\n").stdout == "in\n"
    devenv("run", "-T", "--name", "kept", "web", "true")
    assert devenv.ps()["kept"]["State"] == "exited"
    devenv("run", "--rm", "-T", "web", "no-such-program", code=127)
    devenv("run", "--rm", "-d", "--name", "brief", "web", "sh", "-c", "sleep 0.2")
    eventually(lambda: "brief" not in devenv.ps())
    devenv("down", "--remove-orphans")
    assert devenv.ps() == {}


@pytest.mark.usefixtures("two")
def test_stop_start_restart_kill_rm(devenv: runner.Devenv) -> None:
    before = devenv.ps()
    devenv("stop", "web")
    assert states(devenv) == {"shop-web-1": "exited", "shop-db-1": "running"}
    devenv("start", "web")
    devenv("restart", "db")
    assert states(devenv) == {"shop-web-1": "running", "shop-db-1": "running"}
    assert {row["ID"] for row in devenv.ps().values()} == {row["ID"] for row in before.values()}
    devenv("kill", "-s", "SIGKILL")
    eventually(lambda: set(states(devenv).values()) == {"exited"})
    assert {row["ExitCode"] for row in devenv.ps().values()} == {137}
    devenv("rm", "-f", "web")
    assert list(states(devenv)) == ["shop-db-1"]
    devenv("rm", "-f", "-s")
    assert states(devenv) == {}
    # As with docker compose, networks are for `down`.
    devenv("down")


@pytest.mark.usefixtures("two")
def test_pause_and_unpause(devenv: runner.Devenv) -> None:
    devenv("pause", "web")
    assert states(devenv) == {"shop-web-1": "paused", "shop-db-1": "running"}
    devenv("unpause", "web")
    assert states(devenv) == {"shop-web-1": "running", "shop-db-1": "running"}
    # A paused container goes down as well.
    devenv("pause")
    devenv("down", "-t", "1")
    assert states(devenv) == {}


def test_plan_says_why(devenv: runner.Devenv, two: projects.Project) -> None:
    assert devenv.json("plan")["operations"] == []
    two.edit("COLOUR: red", "COLOUR: blue")
    operations = devenv.json("plan")["operations"]
    assert {item["service"] for item in operations} == {"web"}
    assert "environment" in devenv("plan").stdout
    assert devenv("exec", "-T", "web", "printenv", "COLOUR").stdout == "red\n"


def test_graph(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(TWO + "        depends_on: [web]\n")
    text = devenv("graph").stdout
    assert "web" in text
    assert "db" in text


def test_version(devenv: runner.Devenv) -> None:
    text = devenv("version", "--short").stdout.strip()
    assert json.loads(devenv("version", "--format", "json").stdout)["version"].lstrip("v") == text.lstrip("v")
    assert text in devenv("--version").stdout


def test_top_images_port(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [python3, -m, http.server, "8000"]
            stop_signal: SIGKILL
            ports: ["127.0.0.1:18999:8000"]
        """
    )
    devenv("up", "-d")
    assert devenv("port", "web", "8000").stdout == "127.0.0.1:18999\n"
    assert "http.server" in devenv("top").stdout
    assert "host:" in devenv("images").stdout


@pytest.mark.usefixtures("two")
def test_wait(devenv: runner.Devenv) -> None:
    waiter = devenv.start("wait", "web")
    time.sleep(0.3)
    devenv("kill", "web")
    output, _ = waiter.communicate(timeout=10)
    assert waiter.returncode == 137
    assert output.strip() == "137"


def test_a_command_outside_a_project_says_so(devenv: runner.Devenv) -> None:
    result = devenv("up", "-d", code=2)
    assert "there is no spec" in result.stderr
    assert "hint: " in result.stderr
    assert "did you mean `up`?" in devenv("upp", code=2).stderr


def test_ctrl_c_of_an_attached_up_stops_and_a_second_kills(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          deaf: {image: "host:", command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 0.1; done"]}
        """
    )
    attached = devenv.start("up")
    assert attached.stdout is not None
    for line in attached.stdout:
        if line.rstrip().endswith("| up"):
            break
    begin = time.monotonic()
    attached.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert attached.poll() is None
    attached.send_signal(signal.SIGINT)
    attached.communicate(timeout=10)
    assert time.monotonic() - begin < 8
    assert set(states(devenv).values()) == {"exited"}
