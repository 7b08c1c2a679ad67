"""What a caller wants to be handed: the terminal's master, a pidfd, the pid."""

from __future__ import annotations

import array
import os
import socket

from devenv import errors
from devenv.util import fs, sockets


def check(*, tty: bool, detached: bool, socket_path: str) -> None:
    """Raises ``UsageError`` for combinations in which nobody would hold the terminal."""
    if detached and tty and not socket_path:
        raise errors.UsageError("cannot allocate tty if devenv-oci will detach without setting console socket")
    if socket_path and not (detached and tty):
        raise errors.UsageError("cannot use console socket if devenv-oci will not detach or allocate tty")


def send(path: str, master: int) -> None:
    """The name of the terminal is the message, as conmon and containerd want it; closes ``master``."""
    _send(path, b"/dev/ptmx", master)


def send_pidfd(path: str, pid: int) -> None:
    _send(path, b"pidfd", os.pidfd_open(pid))


def _send(path: str, text: bytes, descriptor: int) -> None:
    try:
        with sockets.connect(os.path.abspath(path)) as connection:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            connection.sendmsg([text], rights)
    except OSError as exc:
        raise errors.ContainerError(f"the socket `{path}`: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def write_pid(path: str, pid: int) -> None:
    fs.write_whole(os.path.abspath(path), str(pid).encode(), mode=0o644)
