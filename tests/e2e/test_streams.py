"""exec, run and logs under abuse: floods, endless lines, bytes that are no text, readers that stop, many execs."""

from __future__ import annotations

import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from devenv.util import fs
from tests.support import machine, polling, projects, runner, terminal

pytestmark = pytest.mark.root

# In a process of its own, so that its memory can be measured.
SLOW = {"DEVENV_SLOW": "1"}
# What a command or a monitor may grow by, whatever flows through it.
GROWTH = 24 << 20


def spec(command: str, *, size: str = "10m", files: int = 3, more: str = "") -> str:
    return f"""
        name: abuse
        services:
          one:
            image: "host:"
            command: {command}
            stop_grace_period: 0s
            logging: {{options: {{max-size: {size}, max-file: "{files}"}}}}
            {more}
        """


IDLE = '["sleep", "1000"]'


@pytest.fixture
def idle(devenv: runner.Devenv, project: projects.Project) -> Iterator[runner.Devenv]:
    project.write(spec(IDLE))
    devenv("up", "-d")
    yield devenv
    devenv("down", "-t", "0")


def shell(script: str) -> str:
    return f"[sh, -c, '{script}']"


def monitor_of(devenv: runner.Devenv) -> int:
    """The pid of the project's monitor, as it has written it down itself."""
    (log,) = pathlib.Path(devenv.run_directory).glob("projects/*/monitor.log")
    return int(re.findall(r"monitor (\d+) of", log.read_text())[-1])


def memory(pid: int, kind: str = "VmHWM") -> int:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{kind}:")[1].split()[0]) * 1024


def log_folder(devenv: runner.Devenv) -> pathlib.Path:
    (folder,) = pathlib.Path(devenv.data).glob("containers/[!.]*/logs")
    return folder


def collected(process: subprocess.Popen[bytes]) -> bytes:
    out, _ = process.communicate(timeout=100)
    return bytes(out)


def piped(devenv: runner.Devenv, *arguments: str, **more: object) -> subprocess.Popen[bytes]:
    options = {"text": False, "env": SLOW, "stderr": subprocess.DEVNULL} | more
    return devenv.start(*arguments, **options)  # type: ignore[return-value]


def size_of_its_terminal(devenv: runner.Devenv) -> tuple[int, int]:
    (state,) = pathlib.Path(devenv.data).glob("containers/[!.]*/state.json")
    descriptor = os.open(f"/proc/{fs.read_json(str(state))['pid']}/fd/0", os.O_RDONLY | os.O_NOCTTY)
    try:
        return tuple(os.get_terminal_size(descriptor))  # type: ignore[return-value]
    finally:
        os.close(descriptor)


# -- logs -------------------------------------------------------------------------------------------------------------


def test_lines_without_end_and_bytes_that_are_no_text_are_kept(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    length = 64_000_000
    odd = bytes(range(256)) * 64 + b"\r\n\x00\n\n\xff\xfe"
    (project / "odd").write_bytes(odd)
    script = f"head -c {length} /dev/zero | tr \\\\0 x; echo; cat /odd; echo"
    project.write(spec(shell(script), size="200m", more='volumes: ["./odd:/odd"]'))
    devenv("up", "-d", "--wait", code=None)
    polling.eventually(lambda: devenv.ps()["abuse-one-1"]["State"] == "exited", 60)
    peak = memory(monitor_of(devenv))
    process = piped(devenv, "logs", "--no-log-prefix", "one")
    found = collected(process)
    assert len(found) == length + 1 + len(odd) + 1
    assert found == b"x" * length + b"\n" + odd + b"\n"
    assert peak < GROWTH + (16 << 20)
    # Into a file of a terminal's reader as well: with a prefix there is one, not one for each piece.
    assert collected(piped(devenv, "logs", "--tail", "3", "one")).count(b"| ") <= 4


def test_a_flood_stays_within_its_files_and_its_monitor_small(
    devenv: runner.Devenv, project: projects.Project, soak: Callable[[int, int], int]
) -> None:
    project.write(spec('["yes", "0123456789"]', size="500k", files=3))
    devenv("up", "-d")
    folder = log_folder(devenv)
    before = memory(monitor_of(devenv), "VmRSS")
    end = time.monotonic() + soak(3, 60)
    while time.monotonic() < end:
        sizes = []
        for entry in folder.iterdir():
            try:
                sizes.append(entry.stat().st_size)
            except FileNotFoundError:
                continue  # rotated away as we looked
        # One being renamed may be seen twice.
        assert sum(sizes) <= 4 * 500 * 1024
        assert len(sizes) <= 4
        time.sleep(0.02)
    assert memory(monitor_of(devenv)) - before < GROWTH
    assert devenv.inside("one", "echo in") == "in"
    devenv("down", "-t", "0")


def test_followed_through_rotations_without_loss_or_repeat(devenv: runner.Devenv, project: projects.Project) -> None:
    count = 200_000
    project.write(
        spec(shell(f"while ! test -e /go; do sleep 0.1; done; seq 1 {count}; sleep 1000"), size="100k", files=400)
    )
    devenv("up", "-d")
    follower = piped(devenv, "logs", "-f", "--no-log-prefix", "one")
    assert follower.stdout is not None
    devenv("exec", "-T", "one", "touch", "/go")
    found = [follower.stdout.readline() for _ in range(count)]
    assert found == [b"%d\n" % number for number in range(1, count + 1)]
    assert len(list(log_folder(devenv).iterdir())) > 20
    devenv("down", "-t", "0")
    assert follower.stdout.read() == b""
    follower.stdout.close()
    follower.wait(20)


def test_who_follows_and_does_not_read_holds_nobody_up_and_stays_small(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(spec('["yes", "y"]', size="2m", files=2))
    devenv("up", "-d")
    follower = piped(devenv, "logs", "-f", "one")
    assert follower.stdout is not None
    follower.stdout.readline()
    before = memory(follower.pid, "VmRSS")
    # Both files have been written anew meanwhile.
    inodes = {entry.stat().st_ino for entry in log_folder(devenv).iterdir()}
    polling.eventually(lambda: not inodes & {entry.stat().st_ino for entry in log_folder(devenv).iterdir()}, 60)
    for _ in range(20_000):
        follower.stdout.readline()
    assert memory(follower.pid) - before < GROWTH
    follower.send_signal(signal.SIGINT)
    follower.stdout.close()
    follower.wait(20)
    devenv("down", "-t", "0")


# -- run ---------------------------------------------------------------------------------------------------------------


def test_run_waits_for_its_reader_and_loses_nothing(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(spec(IDLE))
    count = 30_000_000
    process = piped(devenv, "run", "--rm", "-T", "one", "sh", "-c", f"yes | head -c {count}; exit 3")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"y"
    (state,) = pathlib.Path(devenv.data).glob("containers/[!.]*/state.json")
    polling.always(lambda: fs.read_json(str(state))["status"] == "running", 1)
    assert memory(monitor_of(devenv)) < GROWTH + (16 << 20)
    assert len(process.stdout.read()) == count - 1
    process.stdout.close()
    assert process.wait(20) == 3
    devenv("down")


def test_run_carries_bytes_as_they_are(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(spec(IDLE))
    data = random.Random(1).randbytes(3_000_000)
    process = piped(devenv, "run", "--rm", "-T", "one", "cat", stdin=subprocess.PIPE)
    found, _ = process.communicate(data, timeout=60)
    assert found == data
    devenv("down")


@machine.needs_binary("tmux")
def test_run_has_the_size_of_the_terminal_from_its_first_moment(
    devenv: runner.Devenv, project: projects.Project, terminal_for: Callable[..., terminal.Terminal]
) -> None:
    project.write(spec(IDLE))
    script = "stty size; read x; stty size; exit 5"
    screen = terminal_for(devenv, "run", "--rm", "one", "bash", "-c", script)
    screen.wait_for(r"^30 100", timeout=20)
    screen.resize(61, 17)
    polling.eventually(lambda: size_of_its_terminal(devenv) == (61, 17))
    screen.send("Enter")
    screen.wait_for(r"^17 61", timeout=10)
    assert screen.wait_for_exit(timeout=10) == 5
    devenv("down")


# -- exec --------------------------------------------------------------------------------------------------------------


def test_exec_carries_bytes_as_they_are(idle: runner.Devenv) -> None:
    data = random.Random(2).randbytes(5_000_000)
    process = piped(idle, "exec", "-T", "one", "cat", stdin=subprocess.PIPE)
    found, _ = process.communicate(data, timeout=60)
    assert found == data


@pytest.mark.parametrize("flag", ["-T", "-t"])
def test_exec_of_a_flood_waits_for_its_reader_and_ends_without_one(idle: runner.Devenv, flag: str) -> None:
    process = piped(idle, "exec", flag, "one", "yes", "flood")
    assert process.stdout is not None
    process.stdout.readline()
    before = memory(process.pid, "VmRSS")
    polling.always(lambda: process.poll() is None, 0.5)
    assert memory(process.pid) - before < 4 << 20
    process.stdout.close()
    assert process.wait(20) != 0
    polling.eventually(lambda: "yes flood" not in idle.inside("one", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; true"))


def test_exec_with_a_terminal_takes_input_at_the_pace_of_its_reader(idle: runner.Devenv) -> None:
    """What it doesn't read must not pile up in the command."""
    process = piped(idle, "exec", "-t", "one", "sh", "-c", "stty raw -echo; echo up; sleep 1000", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().startswith(b"up")
    os.set_blocking(process.stdin.fileno(), False)
    taken = 0
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        try:
            taken += os.write(process.stdin.fileno(), bytes(65536))
        except BlockingIOError:
            time.sleep(0.01)
    assert taken < 1 << 20
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    polling.eventually(lambda: "sleep" not in idle.inside("one", "ls -l /proc/[2-9]*/exe 2>/dev/null; true"))


def test_exec_ends_with_its_process_whoever_still_holds_its_output(idle: runner.Devenv) -> None:
    for flag in ("-T", "-t"):
        begun = time.monotonic()
        done = idle("exec", flag, "one", "sh", "-c", "trap '' HUP; sleep 1000 & echo hi")
        assert done.stdout.strip() == "hi"
        assert time.monotonic() - begun < 15


def test_hundreds_of_execs_leave_nothing(idle: runner.Devenv, soak: Callable[[int, int], int]) -> None:
    def picture() -> dict[str, int]:
        pids = {path.parent.name: path for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")}
        found = {}
        for pid, path in pids.items():
            try:
                if idle.folder.encode() in path.read_bytes():
                    found[pid] = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
        return found

    idle("exec", "-T", "one", "true")
    before, files = picture(), sorted(map(str, pathlib.Path(idle.run_directory).rglob("*")))
    for _ in range(soak(60, 3000)):
        idle("exec", "-T", "one", "true")

    def level() -> bool:
        after = picture()
        assert all(after[pid] <= count + 2 for pid, count in before.items() if pid in after), (before, after)
        assert len(after) <= len(before)
        assert sorted(map(str, pathlib.Path(idle.run_directory).rglob("*"))) == files
        return True

    polling.eventually(level)
    assert (
        idle.inside("one", "ls -d /proc/[0-9]* | wc -l; grep -l '^State:.Z' /proc/[0-9]*/status; true").count("\n") == 0
    )


def test_syslog_gets_a_copy(anyone: runner.Devenv, project: projects.Project) -> None:
    """Over the machine's network, of a terminal as well; `devenv logs` has them as ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20 * polling.PATIENCE)
        address = f"udp://127.0.0.1:{server.getsockname()[1]}"
        project.write(
            f"""
            x-service: &service
              image: "host:"
              stop_grace_period: 0s
              logging: {{driver: syslog, options: {{syslog-address: "{address}", tag: "{{{{.Name}}}}", env: A}}}}
            services:
              plain: {{<<: *service, command: [sh, -c, "echo one; echo two >&2; printf three; exec sleep 600"]}}
              shown: {{<<: *service, tty: true, command: [sh, -c, "echo four; exec sleep 600"]}}
            """
        )
        up = anyone("up", "-d")
        assert "`logging: options: env` has no effect with the driver `syslog`" in up.stderr
        received = [server.recv(2000).decode() for _ in range(3)]
        anyone("stop", "plain")
        received.append(server.recv(2000).decode())
    matches = [re.fullmatch(r"<(\d+)>.{15} p-(\w+)-1\[\d+\]: (\w+)", each) for each in received]
    found = sorted(match.groups() for match in matches if match)
    wanted = [("27", "plain", "two"), ("30", "plain", "one"), ("30", "plain", "three"), ("30", "shown", "four")]
    assert found == wanted, received
    assert {"one", "two", "four"} <= {line.rpartition("| ")[2].strip() for line in anyone("logs").stdout.splitlines()}
    anyone("down")
