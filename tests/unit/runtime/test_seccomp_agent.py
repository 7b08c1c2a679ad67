"""Telling an agent of system calls."""

from __future__ import annotations

import os
import pathlib
import socket
import threading

import pytest

from devenv.runtime import handshake, seccomp


def test_an_agent_that_hangs_up_once_it_has_all(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, gone, heard = f"{tmp_path}/agent", threading.Event(), []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
            heard.append((data, len(descriptors)))
            os.close(descriptors[0])
        gone.set()

    before = socket.send_fds

    def send(*arguments: object) -> int:
        sent = before(*arguments)  # type: ignore[arg-type]
        assert gone.wait(20)
        return sent

    monkeypatch.setattr(socket, "send_fds", send)
    thread = threading.Thread(target=serve)
    thread.start()
    told = {"path": path, "told": {"state": {}}, "needed": True}
    seccomp.deliver(handshake.Message(handshake.Word.LISTENER, told, (os.dup(0),)), pid=1)
    thread.join(20)
    listener.close()
    assert heard == [(b'{"state": {"pid": 1}, "pid": 1}', 1)]
