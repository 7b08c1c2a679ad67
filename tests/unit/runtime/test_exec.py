"""The messages of a process that is started in a container, in whatever order its two children get to say them."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.runtime import exec as runtime_exec
from devenv.runtime import handshake


def test_the_process_may_be_ready_before_its_pid_is_told() -> None:
    ours, theirs = handshake.pair()
    with ours, theirs:
        handshake.say(theirs, handshake.Word.READY)
        handshake.say(theirs, handshake.Word.PID, pid=7)
        early: list[handshake.Message] = []
        assert runtime_exec._pid(ours, early) == 7
        assert [message.word for message in early] == [handshake.Word.READY]


def test_what_fails_before_there_is_a_pid() -> None:
    ours, theirs = handshake.pair()
    with ours:
        handshake.say(theirs, handshake.Word.FAILED, errno=1, doing="joining")
        theirs.close()
        with pytest.raises(errors.ContainerError, match="joining: Operation not permitted"):
            runtime_exec._pid(ours, [])
