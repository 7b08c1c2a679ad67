"""Debian's docker-registry, the reference implementation, on loopback; and a wire in front of it that can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence

import pytest

from tests.support.polling import eventually

# bcrypt of "secret", which htpasswd(1) would make.
HTPASSWD = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
USER, PASSWORD = "me", "secret"


def program() -> str | None:
    """The machine's own, or what `./dev test` has put beside the environment."""
    return shutil.which("docker-registry", path=f"{os.environ.get('PATH', '')}:/usr/bin:{sys.prefix}/registry/usr/bin")


needed = pytest.mark.skipif(program() is None, reason="needs the program `docker-registry`")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    folder: pathlib.Path, *, login: bool = False, tls: Sequence[pathlib.Path] = (), proxy_of: str = ""
) -> Iterator[str]:
    """Yields HOST:PORT. ``tls`` is a certificate and its key; ``proxy_of`` makes it a pull-through mirror."""
    port = _free_port()
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "secret": "tests",
            **({"tls": {"certificate": str(tls[0]), "key": str(tls[1])}} if tls else {}),
        },
    }
    if login:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if proxy_of:
        config["proxy"] = {"remoteurl": proxy_of}
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config))
    found = program()
    assert found is not None
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([found, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or _listens(port), 30)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def get(host: str, path: str, accept: str = "*/*") -> bytes:
    """As any client would, without credentials."""
    with urllib.request.urlopen(urllib.request.Request(f"http://{host}{path}", headers={"Accept": accept})) as answer:
        data: bytes = answer.read()
        return data


class Wire:
    """Passes connections on to ``port``. Each lets so many bytes come back before it is cut, as the next number of
    ``budgets`` says; without one, all."""

    def __init__(self, port: int, budgets: list[int]) -> None:
        self._target = port
        self.budgets = budgets
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self.held = threading.Event()  # set once something is held up
        self._limit: int | None = None
        self._released = threading.Event()
        self._open: set[socket.socket] = set()
        self._far: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._server.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def hold(self, after: int) -> None:
        """Answers stop after so many bytes, without an end, until ``release``."""
        self._limit = after

    def release(self) -> None:
        self._released.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            budget = self.budgets.pop(0) if self.budgets else None
            self._open |= {near, far}
            self._far.add(far)
            for source, target, limit in ((near, far, None), (far, near, budget)):
                thread = threading.Thread(target=self._pass, args=(source, target, limit), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while limit is None or limit > 0:
                if source in self._far and self._limit is not None and passed > self._limit:
                    self.held.set()
                    self._released.wait()
                data = source.recv(65536 if limit is None else min(65536, limit))
                if not data:
                    break
                target.sendall(data)
                passed += len(data)
                limit = None if limit is None else limit - len(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()
