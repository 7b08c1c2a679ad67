"""What goes into a container along with a process, and what must not: terminals, descriptors, keyrings, rights."""

from __future__ import annotations

import os
import pathlib
import struct
from collections.abc import Callable

import pytest

from tests.support import projects, runner, terminal

pytestmark = pytest.mark.root

ONE = """
    name: attack
    services:
      one:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        security_opt: ["seccomp:unconfined"]
        volumes: ["./:/here"]
        healthcheck: {test: "ls -l /proc/self/fd >/tmp/probe.new && mv /tmp/probe.new /tmp/probe", interval: 0.2s}
        post_start: [{command: [sh, -c, "ls -l /proc/self/fd >/tmp/hook"]}]
"""
Terminals = Callable[..., terminal.Terminal]


@pytest.fixture
def running(devenv: runner.Devenv, project: projects.Project) -> runner.Devenv:
    project.write(ONE)
    devenv("up", "-d", "--wait")
    return devenv


def test_a_terminal_stays_outside(running: runner.Devenv, terminal_for: Terminals) -> None:
    """Who holds it after the command's end would read what is typed there, a password say (CVE-2016-2568)."""
    script = "ls -l /proc/self/fd | grep -c /dev/pts; head -n 1; (sleep 1000 &); echo bad >&2; exit 3"
    shown = terminal_for(running, "exec", "-T", "one", "sh", "-c", script)
    shown.wait_for(r"^0$")
    shown.type("typed")
    shown.send("Enter")
    # That a child of it lives on keeps nobody.
    assert shown.wait_for_exit() == 3
    assert shown.screen().count("typed") == 2
    assert "bad" in shown.screen()


def test_a_terminal_of_its_own(running: runner.Devenv, terminal_for: Terminals, project: projects.Project) -> None:
    """Nothing can be typed into the caller's shell from inside (TIOCSTI, CVE-2017-5226)."""
    (project / "push.py").write_text(
        "import fcntl\ntry:\n    for c in 'PUSHED\\n': fcntl.ioctl(0, 0x5412, c.encode())\nexcept OSError: pass\n"
    )
    shown = terminal_for(running, "exec", "one", "sh", "-c", "readlink /proc/self/fd/0; python3 /here/push.py; tty")
    shown.wait_for_exit()
    assert shown.screen().count("/dev/pts/0") == 2
    # An echo of what went into the container's own terminal is all there may be.
    assert shown.screen().count("PUSHED") <= 1


def test_no_descriptor_goes_along(running: runner.Devenv) -> None:
    """With health checks and hooks, as with the rest (`test_isolation` has the others)."""
    for place in ("/tmp/probe", "/tmp/hook"):
        lines = [line for line in running.inside("one", f"cat {place}").splitlines() if " -> " in line]
        numbers = {line.rpartition(" -> ")[0].split()[-1] for line in lines}
        # The fourth is the folder that `ls` reads.
        assert numbers == {"0", "1", "2", "3"}, lines


def test_what_the_caller_has_open_stays_outside(running: runner.Devenv) -> None:
    """CVE-2024-21626: a descriptor that was open in the runtime, as something to read and as the working directory."""
    outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(outside, True)
    try:
        for flags, words in (((), ("ls", "/proc/self/fd")), (("-w", f"/proc/self/fd/{outside}"), ("stat", "/"))):
            arguments = ("exec", "-T", *flags, "one", *words)
            with running.start(*arguments, env={"DEVENV_SLOW": "1"}, pass_fds=(outside,)) as process:
                said, _ = process.communicate(timeout=60)
            if flags:
                assert process.returncode != 0, said
            else:
                assert said.split() == ["0", "1", "2", "3"]
    finally:
        os.close(outside)


def test_no_rights_are_inherited(running: runner.Devenv, project: projects.Project) -> None:
    """CVE-2022-24769 and its kin: a file with inheritable capabilities gains nothing, whoever executes it how."""
    program = project / "cat"
    program.write_bytes(pathlib.Path("/bin/cat").read_bytes())
    program.chmod(0o755)
    net_raw = 1 << 13
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 0, net_raw, 0, 0))
    for flags in (("-u", "1234"), ("-u", "1234", "--privileged"), ()):
        status = running("exec", "-T", *flags, "one", "/here/cat", "/proc/self/status").stdout
        sets = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
        assert sets["CapInh"] == sets["CapAmb"] == 0, flags
        if flags:
            assert sets["CapEff"] == 0, flags


def test_the_keyring_is_its_own(running: runner.Devenv, project: projects.Project) -> None:
    """Keys of the session that started a container are not for the container (keyctl(2), KEYCTL_GET_KEYRING_ID)."""
    ask = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"
    if os.uname().machine != "x86_64":
        pytest.skip("needs hardware of the kind x86-64")
    numbers = [running.inside("one", f"python3 -c '{ask}'", code=None) for _ in range(2)]
    assert len({*numbers}) == 2, "each process that enters has one of its own"
    assert all(int(number) > 0 for number in numbers)
