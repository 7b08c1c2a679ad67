from __future__ import annotations

import os
import select
import signal

import pytest

from devenv.runtime import waiting


def child(code: str) -> tuple[int, int]:
    pid = os.fork()
    if pid == 0:
        exec(code)
        os._exit(0)
    return pid, os.pidfd_open(pid)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os._exit(0)", waiting.Exit(0, None)),
        ("os._exit(7)", waiting.Exit(7, None)),
        ("os._exit(255)", waiting.Exit(255, None)),
        ("os.kill(os.getpid(), signal.SIGKILL)", waiting.Exit(137, 9)),
        ("os.kill(os.getpid(), signal.SIGTERM)", waiting.Exit(143, 15)),
    ],
)
def test_every_way_to_ask_says_the_same(code: str, expected: waiting.Exit) -> None:
    pid, pidfd = child(f"import os, signal; {code}")
    select.select([pidfd], [], [])
    fields = waiting.stat_fields(pid)
    assert fields is not None
    start = int(fields[19])
    assert waiting.peek_child(pidfd) == expected
    assert waiting.peek_stranger(pidfd, pid=pid, start_time=start, reaped=False) == expected
    # Another process's number: it says nothing about this one.
    assert waiting.peek_stranger(pidfd, pid=pid, start_time=start + 1, reaped=False) is None
    waiting.reap(pidfd)
    waiting.reap(pidfd)
    assert waiting.peek_stranger(pidfd, pid=pid, start_time=start, reaped=True) in {expected, waiting.UNKNOWN}
    os.close(pidfd)


def test_running_child_has_no_exit() -> None:
    reader, writer = os.pipe()
    pid, pidfd = child(f"import os; os.close({writer}); os.read({reader}, 1)")
    assert waiting.peek_child(pidfd) is None
    assert not waiting.ended(pidfd)
    assert waiting.peek_stranger(pidfd, pid=pid, start_time=0, reaped=False) is None
    os.close(writer)
    select.select([pidfd], [], [])
    waiting.reap(pidfd)
    os.close(pidfd)
    os.close(reader)


def test_pid_alone_is_no_proof() -> None:
    fields = waiting.stat_fields(os.getpid())
    assert fields is not None
    pidfd = waiting.open_process(os.getpid(), int(fields[19]))
    assert pidfd is not None
    os.close(pidfd)
    assert waiting.open_process(os.getpid(), int(fields[19]) + 1) is None
    assert waiting.open_process(2**22 - 1, 1) is None
    assert waiting.from_status(signal.SIGSEGV) == waiting.Exit(139, 11)
