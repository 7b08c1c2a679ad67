"""Unix sockets by path, however long the path: ``sun_path`` holds 108 bytes (unix(7)), a test's folder is longer."""

from __future__ import annotations

import contextlib
import os
import socket


@contextlib.contextmanager
def _short(path: str):  # type: ignore[no-untyped-def]
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def listen(path: str, *, kind: socket.SocketKind = socket.SOCK_STREAM, backlog: int = 64) -> socket.socket:
    """A listening socket at ``path``, in place of one that a dead process left there.

    The caller holds the lock that says nobody else listens.
    """
    server = socket.socket(socket.AF_UNIX, kind)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with _short(path) as name:
            server.bind(name)
        os.chmod(path, 0o600)
        server.listen(backlog)
    except BaseException:
        server.close()
        raise
    return server


def connect(path: str, *, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Raises ``FileNotFoundError`` or ``ConnectionRefusedError`` when nobody listens."""
    client = socket.socket(socket.AF_UNIX, kind)
    try:
        with _short(path) as name:
            client.connect(name)
    except BaseException:
        client.close()
        raise
    return client
