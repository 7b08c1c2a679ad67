"""A runtime for tests of the monitor: "containers" are plain forked processes, without namespaces and without root.

Run as a program it is a monitor with this runtime; ``config.json`` needs only ``{"process": {"args": […]}}``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import termios
import time
from typing import Any, NamedTuple

from devenv.runtime import backend, monitor_main, waiting
from devenv.util import fs


class Created(NamedTuple):
    pid: int
    start_time: int
    start_fd: int
    tty_master_fd: int | None


class Plain:
    def create(
        self, folder: str, *, container_id: str, run_dir: str, stdio: tuple[int, int, int], terminal: bool
    ) -> Created:
        args = fs.read_json(f"{folder}/config.json")["process"]["args"]
        if args == ["fail"]:
            raise RuntimeError("made to fail")
        if args == ["hang"]:
            time.sleep(60)
        if args == ["slow"]:
            time.sleep(0.5)
        gate, opener = os.pipe()
        master, slave = os.openpty() if terminal else (None, -1)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._child(args, gate, (slave,) * 3 if terminal else stdio, parent, terminal=terminal, opener=opener)
        os.close(gate)
        if terminal:
            os.close(slave)
        fields = waiting.stat_fields(pid)
        assert fields is not None
        return Created(pid, int(fields[19]), opener, master)

    @staticmethod
    def _child(args, gate, stdio, parent, *, terminal, opener):  # type: ignore[no-untyped-def]
        try:
            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)
            os.close(opener)
            for target, source in enumerate(stdio):
                os.dup2(source, target)
            os.setsid()
            if terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if os.read(gate, 1) != b"x":
                os._exit(1)
            ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.closerange(3, 1000)
            os.execvp(args[0], args)
        finally:
            os._exit(127)

    def start(self, created: Created) -> None:
        os.write(created.start_fd, b"x")

    def outlives_us(self, folder: str) -> bool:
        return False

    def forget(self, created: Created) -> None:
        os.close(created.start_fd)

    def execute(
        self, folder: str, state: dict[str, Any], process: dict[str, Any], *, stdio: tuple[int, int, int], tty: bool
    ) -> backend.Executed:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for target, source in enumerate(stdio):
                    os.dup2(source, target)
                os.closerange(3, 1000)
                os.execvp(process["args"][0], process["args"])
            finally:
                os._exit(127)
        return backend.Executed(pid, os.pidfd_open(pid), None)

    def pids(self, folder: str, state: dict[str, Any]) -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def kill_all(self, folder: str, state: dict[str, Any], signal: int) -> None:
        os.killpg(state["pid"], signal)

    def freeze(self, folder: str, state: dict[str, Any]) -> None:
        os.kill(state["pid"], signal.SIGSTOP)

    def thaw(self, folder: str, state: dict[str, Any]) -> None:
        os.kill(state["pid"], signal.SIGCONT)

    def oom_killed(self, folder: str, state: dict[str, Any]) -> bool:
        return False

    def destroy(self, folder: str, state: dict[str, Any]) -> None:
        pass

    def parse_signal(self, text: str) -> int:
        return int(text) if text.isdigit() else int(signal.Signals[text])


if __name__ == "__main__":
    sys.exit(monitor_main.run(sys.argv[1:], Plain()))
