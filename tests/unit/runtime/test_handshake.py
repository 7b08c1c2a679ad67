"""Messages between the processes of a container's beginning: whole, or an error."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.runtime import handshake


def test_nothing_is_cut() -> None:
    """CVE-2021-43784: a length that overflowed made the rest of a message mean something else."""
    ours, theirs = handshake.pair()
    with ours, theirs:
        with pytest.raises(errors.ContainerError, match="too large"):
            handshake.say(ours, handshake.Word.START, state={"annotations": {"a": "x" * 70_000}})
        handshake.say(ours, handshake.Word.START, state={"a": "x" * 60_000})
        message = handshake.hear(theirs)
        assert message is not None
        assert message.values["state"] == {"a": "x" * 60_000}


def test_a_failure_is_told_however_long() -> None:
    ours, theirs = handshake.pair()
    with ours, theirs:
        for exc in (errors.ContainerError("ä" * 70_000), OSError(2, "no", "p" * 70_000), ValueError("v" * 70_000)):
            handshake.confess(ours, exc)
            with pytest.raises(errors.ContainerError):
                handshake.expect(theirs, handshake.Word.READY)
