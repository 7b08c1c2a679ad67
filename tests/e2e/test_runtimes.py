"""`runtime:` in a service: another OCI runtime in place of the built-in one, with all that devenv gives besides."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
from collections.abc import Iterator

import pytest

from devenv.util import fs, identity
from tests.support import machine, polling, projects, runner

pytestmark = pytest.mark.root

TERM = "trap 'exit 4' TERM; echo up; echo err >&2; while :; do sleep 0.05; done"


def spec(runtime: str, more: str = "") -> str:
    return f"""
        name: other
        services:
          one:
            image: "host:"
            runtime: {runtime}
            command: [sh, -c, "{TERM}"]
            environment: {{COLOUR: red}}
            healthcheck: {{test: [CMD, test, -e, /healthy], interval: 100ms, start_interval: 100ms, retries: 1000}}
            stop_grace_period: 20s
            {more}
          two:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
        """


@pytest.fixture(params=["runc", "devenv-oci", "renamed"])
def runtime(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[str]:
    """``renamed``: one of which nothing is known, so that its own `exec` has to do."""
    if request.param == "devenv-oci":
        yield "devenv-oci"
        return
    program = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("needs runc")
    if request.param == "renamed":
        other = tmp_path / "other-runtime"
        other.symlink_to(program)
        program = str(other)
    yield program


def monitor_pid(devenv: runner.Devenv) -> int:
    (log,) = pathlib.Path(devenv.run_directory).glob("projects/*/monitor.log")
    return int(re.findall(r"monitor (\d+) of", log.read_text())[-1])


def container(devenv: runner.Devenv, name: str = "other-one-1") -> str:
    return str(devenv.ps()[name]["ID"])


def test_life(devenv: runner.Devenv, project: projects.Project, runtime: str) -> None:
    project.write(spec(runtime, "ports: ['127.0.0.1::80']"))
    devenv("up", "-d")
    kept = list(pathlib.Path(devenv.run_directory, "oci").iterdir())
    assert len(kept) == 1
    polling.eventually(
        lambda: devenv("logs", "--no-log-prefix", "one").stdout.split() in (["up", "err"], ["err", "up"])
    )
    # exec, its exit code and its streams.
    assert devenv.inside("one", "echo $COLOUR") == "red"
    done = devenv("exec", "-T", "one", "sh", "-c", "cat; echo e >&2; exit 7", input="through", code=7)
    assert (done.stdout, done.stderr) == ("through", "e\n")
    # A health probe, names and the network.
    assert devenv.ps()["other-one-1"]["Health"] == "starting"
    devenv("exec", "-T", "one", "touch", "/healthy")
    polling.eventually(lambda: devenv.ps()["other-one-1"]["Health"] == "healthy")
    address = devenv.inside("two", "getent hosts one").split()[0]
    assert address in devenv.inside("one", "ip -4 addr show eth0 2>/dev/null || cat /proc/net/fib_trie")
    # Limits and signals go by the cgroup and the first process.
    devenv("pause", "one")
    assert devenv.ps()["other-one-1"]["State"] == "paused"
    devenv("unpause", "one")
    devenv("restart", "one")
    assert devenv.inside("one", "echo again") == "again"
    devenv("stop")
    assert devenv.ps()["other-one-1"]["ExitCode"] == 4
    devenv("down")
    polling.eventually(lambda: not os.path.exists(f"{devenv.run_directory}/oci"))


def test_terminal_and_one_off(devenv: runner.Devenv, project: projects.Project, runtime: str) -> None:
    project.write(spec(runtime, "tty: true"))
    done = devenv("run", "--rm", "-T", "one", "sh", "-c", "cat; exit 5", input="in", code=5)
    assert done.stdout == "in"
    devenv("run", "--rm", "-T", "one", "no-such-program", code=127)
    devenv("up", "-d", "one")
    polling.eventually(lambda: devenv("logs", "--no-log-prefix", "one").stdout.split() == ["up", "err"])
    assert "/dev/" in devenv("exec", "-t", "one", "tty").stdout
    devenv("down", "-t", "0")


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_adopted_by_the_next_monitor(devenv: runner.Devenv, project: projects.Project, runtime: str) -> None:
    project.write(spec(runtime))
    devenv("up", "-d")
    before = container(devenv)
    (state,) = pathlib.Path(devenv.data).glob(f"containers/{before}*/state.json")
    pid = fs.read_json(str(state))["pid"]
    old = monitor_pid(devenv)
    os.kill(old, signal.SIGKILL)
    polling.eventually(lambda: monitor_pid(devenv) != old)
    assert devenv.ps()["other-one-1"]["State"] == "running"
    assert identity.process_start_time(pid) is not None
    devenv("stop")
    assert devenv.ps()["other-one-1"]["ExitCode"] == 4
    devenv("down")


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_policy_brings_it_back(devenv: runner.Devenv, project: projects.Project, runtime: str) -> None:
    project.write(spec(runtime, "restart: always"))
    devenv("up", "-d")
    (state,) = pathlib.Path(devenv.data).glob(f"containers/{container(devenv)}*/state.json")
    first = fs.read_json(str(state))["pid"]
    os.kill(first, signal.SIGKILL)
    polling.eventually(lambda: (now := fs.read_json(str(state)))["status"] == "running" and now["pid"] != first)
    devenv("down", "-t", "0")


@pytest.mark.parametrize("runtime", ["runc"], indirect=True)
def test_user_volume_and_device(devenv: runner.Devenv, project: projects.Project, runtime: str) -> None:
    wishes = (
        "user: nobody",
        "volumes: ['data:/usr/share/common-licenses', '.:/here:ro']",
        "devices: [/dev/full]",
        "tmpfs: [/scratch]",
    )
    project.write(spec(runtime, ("\n" + " " * 12).join(wishes)) + "volumes: {data: {}}\n")
    devenv("up", "-d", "one")
    assert devenv.inside("one", "id -un") == "nobody"
    assert devenv.inside("one", "ls -A /usr/share/common-licenses | wc -l") != "0"
    devenv("exec", "-T", "one", "sh", "-c", "echo x >/here/x", code=None)
    assert not (project / "x").exists()
    said = devenv("exec", "-T", "-u", "0", "one", "sh", "-c", "echo x | cat >/dev/full", code=None).stderr
    assert "No space left" in said
    devenv("down", "-v", "-t", "0")


def test_what_is_not_there_is_said_with_its_place(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(spec("no-such-runtime"))
    said = devenv("up", "-d", code=2).stderr
    assert "no-such-runtime" in said
    assert re.search(r"devenv\.yaml:5:", said)
    assert "hint:" in said
    assert devenv.ps() == {}
    assert "no-such-runtime" in devenv("config").stdout


@machine.needs_binary("false")
def test_what_a_runtime_says_is_told(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(spec(shutil.which("false") or ""))
    said = devenv("up", "-d", "one", code=None)
    assert said.returncode != 0
    assert "`false create`" in said.stderr
    devenv("down")
