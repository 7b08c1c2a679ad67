"""The messages of a process that is started in a container: its pid comes first, and the process waits for GO."""

from __future__ import annotations

import os

import pytest

from devenv import errors
from devenv.runtime import exec as runtime_exec
from devenv.runtime import handshake


def child() -> int:
    """One to be waited for, which has said its word already."""
    return os.posix_spawn("/bin/true", ["true"], {})


def test_nothing_is_heard_of_a_process_before_its_pid() -> None:
    ours, theirs = handshake.pair()
    with ours, theirs:
        handshake.say(theirs, handshake.Word.READY)
        with pytest.raises(errors.ContainerError, match="said `ready` where `pid` was expected"):
            runtime_exec._await(ours, child())


def test_what_fails_before_there_is_a_pid() -> None:
    ours, theirs = handshake.pair()
    first = child()
    with ours:
        handshake.say(theirs, handshake.Word.FAILED, errno=1, doing="joining")
        theirs.close()
        with pytest.raises(errors.ContainerError, match="joining: Operation not permitted"):
            runtime_exec._await(ours, first)
    with pytest.raises(ChildProcessError):
        os.waitpid(first, 0)
