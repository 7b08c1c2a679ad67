from __future__ import annotations

import functools
import http.server
import pathlib
import threading
from collections.abc import Iterator

import pytest

from devenv.util import tree
from tests.support import building


@pytest.fixture
def builder(short_path: pathlib.Path) -> Iterator[building.Builder]:
    yield building.Builder(short_path)
    for name in ("data", "run"):
        tree.remove(str(short_path / name))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def address(tmp_path: pathlib.Path) -> Iterator[str]:
    """Where the folder ``web`` is served."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()
