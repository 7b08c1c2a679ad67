"""The fast way of the command: what it sends, and what it makes of the answers."""

from __future__ import annotations

import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from devenv import entry


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads that take turns at every chance; and the signals that a caller passes on are ours again afterwards."""
    before = sys.getswitchinterval()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


# The process ends with the answer, so its socket is left to that.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("eager")
def test_an_answer_that_comes_at_once_is_taken(tmp_path: pathlib.Path) -> None:
    """A command that was done before its caller went on used to be carried out once more, the slow way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{tmp_path}/command.sock")
        listener.listen(8)

        def serve() -> None:
            for _ in range(200):
                connection, _ = listener.accept()
                with connection:
                    _, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(12))
                    for _, _, descriptors in ancillary:
                        for number in memoryview(descriptors).cast("i"):
                            socket.close(number)
                    connection.sendall((1 << 30).to_bytes(4, "little") + (7).to_bytes(4, "little"))

        server = threading.Thread(target=serve)
        server.start()
        found = {entry._send(str(tmp_path), ["ls"]) for _ in range(200)}
        server.join()
    assert found == {7}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["task", "lint"], "task"),
        (["-f", "x.yaml", "--debug", "task"], "task"),
        (["-p", "task", "up"], "up"),
        (["--progress=json", "ci", "make"], "ci"),
        (["--help"], "--help"),
        (["-f"], "-f"),
    ],
)
def test_which_command_it_is(arguments: list[str], expected: str) -> None:
    assert entry._command(arguments) == expected
