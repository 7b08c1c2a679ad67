"""What the monitor needs of the runtime, in one place; tests give it plain forked processes instead."""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Executed(NamedTuple):
    pid: int
    pidfd: int
    terminal: int | None  # the pty's master when one was asked for


@runtime_checkable
class Pending(Protocol):
    """Something that another process does meanwhile."""

    def fileno(self) -> int:
        """Readable once there is an answer."""

    def give_up(self) -> None:
        """Then there is an answer soon."""

    def finish(self) -> Any:
        """The answer; raises what went wrong. Once."""


class Backend(Protocol):
    def create(
        self, folder: str, *, container_id: str, run_dir: str, stdio: tuple[int, int, int], terminal: bool
    ) -> Any:
        """Something with ``pid``, ``start_time`` and ``tty_master_fd``, or a ``Pending`` of it.

        Until started, the child dies with us, unless ``outlives_us`` says otherwise.
        """

    def start(self, created: Any) -> Pending | None: ...

    def outlives_us(self, folder: str) -> bool: ...

    def forget(self, created: Any) -> None:
        """Close what ``create`` opened for ``start``."""

    def execute(
        self, folder: str, state: dict[str, Any], process: dict[str, Any], *, stdio: tuple[int, int, int], tty: bool
    ) -> Executed: ...

    def pids(self, folder: str, state: dict[str, Any]) -> list[int]: ...

    def kill_all(self, folder: str, state: dict[str, Any], signal: int) -> None: ...

    def freeze(self, folder: str, state: dict[str, Any]) -> None: ...

    def thaw(self, folder: str, state: dict[str, Any]) -> None: ...

    def oom_killed(self, folder: str, state: dict[str, Any]) -> bool: ...

    def destroy(self, folder: str, state: dict[str, Any]) -> None:
        """Remove the cgroup, with whatever is still in it. Raises nothing; what isn't there is removed."""

    def parse_signal(self, text: str) -> int: ...


def note(text: str) -> None:
    """A line in monitor.log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
    sys.stderr.flush()
