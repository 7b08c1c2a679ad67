from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import termios
import threading
import tty as tty_module
from collections.abc import Iterator

import pytest

from devenv.cli import streams
from devenv.util import terminals


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    made = [os.pipe() for _ in range(6)]
    yield made
    for pair in made:
        for descriptor in pair:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    chunks = []
    while chunk := os.read(descriptor, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def test_two_streams_stay_apart(pipes: list[tuple[int, int]]) -> None:
    (out, out_w), (err, err_w), (seen_out, to_out), (seen_err, to_err) = pipes[:4]
    os.write(out_w, b"data\0\xff\n")
    os.write(err_w, b"words")
    os.close(out_w)
    os.close(err_w)
    streams.carry({out: to_out, err: to_err})
    os.close(to_out)
    os.close(to_err)
    assert read_all(seen_out) == b"data\0\xff\n"
    assert read_all(seen_err) == b"words"


def test_stdin_goes_in_and_its_end_too(pipes: list[tuple[int, int]]) -> None:
    (out, out_w), (stdin, stdin_w), (inside, into), (seen, to_seen) = pipes[:4]
    payload = os.urandom(300_000)  # several times what a pipe holds

    def container() -> None:
        data = read_all(inside)
        for start in range(0, len(data), 65536):
            os.write(out_w, data[start : start + 65536])
        os.close(out_w)

    def caller() -> None:
        terminals.write_all(stdin_w, payload)
        os.close(stdin_w)

    received: list[bytes] = []
    threads = [threading.Thread(target=work) for work in (container, caller)]
    reader = threading.Thread(target=lambda: received.append(read_all(seen)))
    for thread in [*threads, reader]:
        thread.start()
    streams.carry({out: to_seen}, stdin=stdin, into=into)
    os.close(to_seen)
    for thread in [*threads, reader]:
        thread.join()
    assert received == [payload]


def test_stdin_may_be_a_file(pipes: list[tuple[int, int]], tmp_path: pathlib.Path) -> None:
    (out, out_w), (inside, into), (seen, to_seen) = pipes[:3]
    (tmp_path / "input").write_bytes(b"from a file")

    def container() -> None:
        os.write(out_w, read_all(inside).upper())
        os.close(out_w)

    thread = threading.Thread(target=container)
    thread.start()
    with open(tmp_path / "input", "rb") as file:
        streams.carry({out: to_seen}, stdin=file.fileno(), into=into)
    thread.join()
    os.close(to_seen)
    assert read_all(seen) == b"FROM A FILE"


def test_a_container_that_does_not_read_is_not_waited_for(pipes: list[tuple[int, int]]) -> None:
    (out, out_w), (stdin, stdin_w), (inside, into), (seen, to_seen) = pipes[:4]
    os.write(stdin_w, b"never read")
    os.close(inside)
    os.write(out_w, b"bye")
    os.close(out_w)
    streams.carry({out: to_seen}, stdin=stdin, into=into)
    os.close(to_seen)
    assert read_all(seen) == b"bye"


def test_terminals_are_joined_in_raw_mode(pipes: list[tuple[int, int]]) -> None:
    """Our terminal is `outer`; `inner` is the container's, where a process echoes one line in capitals."""
    outer_master, outer = pty.openpty()
    inner_master, inner = pty.openpty()
    before = termios.tcgetattr(outer)
    tty_module.setraw(inner)
    modes: list[int] = []

    def container() -> None:
        os.write(inner, b"> ")
        line = os.read(inner, 100)
        modes.append(int(termios.tcgetattr(outer)[3]))
        os.write(inner, line.upper())
        os.close(inner)

    def user() -> None:
        # The prompt tells that the terminal is in raw mode.
        seen.append(os.read(outer_master, 100))
        os.write(outer_master, b"hello\x03")
        seen.append(os.read(outer_master, 100))

    seen: list[bytes] = []
    threads = [threading.Thread(target=work) for work in (container, user)]
    for thread in threads:
        thread.start()
    terminals.join(inner_master, stdin=outer, stdout=outer)
    for thread in threads:
        thread.join()
    assert seen == [b"> ", b"HELLO\x03"]
    # Ctrl-C was a byte like any other, and nothing was echoed.
    assert not modes[0] & (termios.ISIG | termios.ECHO | termios.ICANON)
    assert termios.tcgetattr(outer) == before
    for descriptor in (outer_master, outer, inner_master):
        os.close(descriptor)


def test_the_size_goes_along() -> None:
    outer_master, outer = pty.openpty()
    inner_master, inner = pty.openpty()
    termios.tcsetwinsize(outer, (33, 101))
    terminals.copy_size(outer, inner_master)
    assert termios.tcgetwinsize(inner) == (33, 101)
    for descriptor in (outer_master, outer, inner_master, inner):
        os.close(descriptor)


def test_who_only_looks_on_types_nothing_and_keeps_his_terminal(pipes: list[tuple[int, int]]) -> None:
    outer_master, outer = pty.openpty()
    inner_master, inner = pty.openpty()
    seen, to_seen = pipes[0]
    before = termios.tcgetattr(outer)
    os.write(outer_master, b"typed\n")
    os.write(inner, b"shown")
    os.close(inner)
    terminals.join(inner_master, stdin=outer, stdout=to_seen, interactive=False)
    os.close(to_seen)
    assert read_all(seen) == b"shown"
    assert termios.tcgetattr(outer) == before
    assert os.read(outer, 100) == b"typed\n"
    for descriptor in (outer_master, outer, inner_master):
        os.close(descriptor)


@pytest.mark.parametrize("way", ["keys", "the terminal goes"])
def test_whoever_leaves_types_nothing_more(pipes: list[tuple[int, int]], way: str) -> None:
    outer_master, outer = pty.openpty()
    inner_master, inner = pty.openpty()
    tty_module.setraw(inner)
    _, to_seen = pipes[0]

    def user() -> None:
        if way == "keys":
            os.write(outer_master, b"ls\x10x\x10\x11more")
        else:
            os.close(outer_master)

    tty_module.setraw(outer)
    thread = threading.Thread(target=user)
    thread.start()
    assert terminals.join(inner_master, stdin=outer, stdout=to_seen, keys=b"\x10\x11") is True
    thread.join()
    os.set_blocking(inner, False)
    try:
        typed = os.read(inner, 100)
    except BlockingIOError:
        typed = b""
    assert typed == (b"ls\x10x" if way == "keys" else b"")
    for descriptor in (outer, inner_master, inner, *([outer_master] if way == "keys" else [])):
        os.close(descriptor)
