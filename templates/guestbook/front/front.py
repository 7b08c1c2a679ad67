"""The guestbook's front: the files of ``site/``, and everything below /api/ passed on to the API."""

from __future__ import annotations

import mimetypes
import os
import pathlib
import urllib.error
import urllib.parse
import urllib.request

import live

SITE = pathlib.Path(__file__).parent / "site"
API = os.environ.get("API", "http://api:8000")


class Handler(live.Handler):
    server: Front

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path == "/health":
            self.send(200, b'{"ok": true}')
        elif path.startswith("/api/"):
            self.forward()
        else:
            self.file(path)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.path.startswith("/api/"):
            self.forward()
        else:
            self.send(405, b"only /api/ takes a POST\n", "text/plain")

    def file(self, path: str) -> None:
        wanted = (SITE / path.lstrip("/")).resolve()
        if wanted.is_dir():
            wanted /= "index.html"
        if not wanted.is_relative_to(SITE.resolve()) or not wanted.is_file():
            self.send(404, b"no such page\n", "text/plain")
            return
        kind = mimetypes.guess_type(wanted.name)[0] or "application/octet-stream"
        self.send(200, wanted.read_bytes(), kind)

    def forward(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length) if self.command == "POST" else None
        request = urllib.request.Request(self.server.api + self.path.removeprefix("/api"), data)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self.send(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self.send(error.code, error.read())
        except OSError as error:
            self.send(502, f'{{"error": "the api does not answer: {error}"}}'.encode())


class Front(live.Server):
    def __init__(self, port: int, api: str, source: live.Source | None = None) -> None:
        self.api = api
        super().__init__(port, Handler, source)


def main() -> None:
    source = live.Source(pathlib.Path(__file__).parent, pathlib.Path(live.__file__).parent)
    server = Front(int(os.environ.get("PORT", "8000")), API, source)
    print(f"guestbook: open {os.environ.get('URL', f'http://localhost:{server.server_address[1]}/')}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
