"""Which first processes of a container do something on a signal, by what the kernel says of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from devenv.linux import heeding
from tests.support import machine
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_root]

PROGRAMS = {
    "none": ("import time; print(flush=True); time.sleep(100)", True),
    "a handler": ("import signal, time; signal.signal(15, print); print(flush=True); time.sleep(100)", False),
    "ignored": ("import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(100)", False),
    "blocked": ("import signal, time; signal.pthread_sigmask(0, [15]); print(flush=True); time.sleep(100)", False),
    "sigwait": ("import signal; signal.pthread_sigmask(0, [15]); print(flush=True); signal.sigwait([15])", False),
    "a thread": (
        "import signal, threading, time; signal.pthread_sigmask(0, [15]);"
        "threading.Thread(target=signal.sigwait, args=[[15]]).start(); print(flush=True); time.sleep(100)",
        False,
    ),
}


@pytest.fixture
def first(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The pid of process 1 of a namespace, and of one that is process 2 of it."""
    words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", request.param]
    outer = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert outer.stdout is not None
    outer.stdout.readline()
    with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as file:
        yield int(file.read()), outer.pid
    outer.kill()
    outer.wait()
    outer.stdout.close()


@pytest.mark.parametrize(("first", "deaf"), PROGRAMS.values(), ids=list(PROGRAMS), indirect=["first"])
def test_who_is_deaf(first: tuple[int, int], *, deaf: bool) -> None:
    inner, outer = first
    # One that has just printed may not wait yet.
    eventually(lambda: heeding.is_deaf(inner, signal.SIGTERM) is deaf, 5)
    assert not heeding.is_deaf(outer, signal.SIGTERM)  # no process 1: the signal would end it
    assert not heeding.is_deaf(os.getpid(), signal.SIGTERM)


def test_of_nobody_nothing_is_said() -> None:
    assert not heeding.is_deaf(2**22 + 1, signal.SIGTERM)
