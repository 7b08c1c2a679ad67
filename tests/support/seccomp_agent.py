"""What listens at a profile's `listenerPath`: takes the container process state and answers each notification."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import threading
from typing import Any

# include/uapi/linux/seccomp.h: struct seccomp_notif has 80 bytes, struct seccomp_notif_resp 24.
SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101


class Agent:
    """Lets every call that it is shown fail with ``number``."""

    def __init__(self, path: str, number: int) -> None:
        self.path = path
        self.number = number
        self.states: list[dict[str, Any]] = []
        self.calls: list[tuple[int, int]] = []  # pid, number
        self.problem: BaseException | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        os.chmod(path, 0o777)
        self._listener.listen()
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        os.close(self._stop_writer)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listener.close()
        os.close(self._stop_reader)
        if self.problem is not None:
            raise self.problem

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._stop_reader)
        poll.register(self._listener, select.POLLIN)
        open_: list[int] = []
        try:
            while True:
                for descriptor, events in poll.poll():
                    if descriptor == self._stop_reader:
                        return
                    if descriptor == self._listener.fileno():
                        taken = self._accept()
                        open_.append(taken)
                        poll.register(taken, select.POLLIN)
                    elif events & select.POLLIN:
                        self._answer(descriptor)
                    else:
                        poll.unregister(descriptor)
        except BaseException as exc:  # noqa: BLE001  raised again in the test
            self.problem = exc
        finally:
            for descriptor in open_:
                os.close(descriptor)

    def _accept(self) -> int:
        connection, _ = self._listener.accept()
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
            while more := connection.recv(65536):
                data += more
        self.states.append(json.loads(data))
        (descriptor,) = descriptors
        return descriptor

    def _answer(self, descriptor: int) -> None:
        buffer = bytearray(80)
        with contextlib.suppress(FileNotFoundError):  # the caller has been killed
            fcntl.ioctl(descriptor, SECCOMP_IOCTL_NOTIF_RECV, buffer)
            identity, pid, _, number = struct.unpack_from("<QIIi", buffer)
            self.calls.append((pid, number))
            answer = struct.pack("<QqiI", identity, 0, -self.number, 0)
            fcntl.ioctl(descriptor, SECCOMP_IOCTL_NOTIF_SEND, bytearray(answer))
