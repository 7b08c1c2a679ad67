"""The guestbook's web API: entries in SQLite, and a queue of those a worker has not read yet.

GET  /health              is it up
GET  /entries             the newest fifty
POST /entries             {"name": …, "message": …}
GET  /jobs?wait=SECONDS   the oldest entry without a word count; 204 when none comes in that time
POST /jobs/ID             {"words": …}
"""

from __future__ import annotations

import json
import os
import pathlib
import sqlite3
import threading
import time
import urllib.parse

import live

GREETING = "Welcome to the guestbook"
SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, message TEXT NOT NULL, written REAL NOT NULL, words INTEGER
)
"""


class Guestbook:
    """The entries, for several threads at once."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.row_factory = sqlite3.Row
        self.lock = threading.Condition()
        with self.database:
            self.database.execute(SCHEMA)

    def newest(self, limit: int = 50) -> list[dict[str, object]]:
        with self.lock:
            rows = self.database.execute("SELECT * FROM entry ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [dict(row) for row in rows]

    def add(self, name: str, message: str) -> int:
        with self.lock, self.database:
            cursor = self.database.execute(
                "INSERT INTO entry (name, message, written) VALUES (?, ?, ?)", (name, message, time.time())
            )
            self.lock.notify_all()
        return int(cursor.lastrowid or 0)

    def unread(self) -> dict[str, object] | None:
        row = self.database.execute("SELECT * FROM entry WHERE words IS NULL ORDER BY id LIMIT 1").fetchone()
        return None if row is None else dict(row)

    def wait_for_unread(self, seconds: float, leaving: threading.Event) -> dict[str, object] | None:
        end = time.monotonic() + seconds
        with self.lock:
            while (found := self.unread()) is None and not leaving.is_set():
                left = end - time.monotonic()
                if left <= 0:
                    break
                self.lock.wait(min(left, 0.25))
        return found

    def counted(self, entry: int, words: int) -> bool:
        with self.lock, self.database:
            cursor = self.database.execute("UPDATE entry SET words = ? WHERE id = ?", (words, entry))
        return cursor.rowcount == 1


class Handler(live.Handler):
    server: Api

    def reply(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode())

    def body(self) -> dict[str, object]:
        """Raises ValueError if it is no JSON object of a sane size."""
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= 100_000:
            raise ValueError("the body is too large")
        value = json.loads(self.rfile.read(length) or b"{}")
        if not isinstance(value, dict):
            raise ValueError("the body is not an object")
        return value

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        book = self.server.book
        if url.path == "/health":
            self.reply({"ok": True})
        elif url.path == "/entries":
            self.reply({"greeting": GREETING, "entries": book.newest()})
        elif url.path == "/jobs":
            wait = float(urllib.parse.parse_qs(url.query).get("wait", ["0"])[0])
            job = book.wait_for_unread(min(wait, 25), self.server.leaving)
            self.reply(job) if job else self.send(204)
        else:
            self.reply({"error": "no such page"}, 404)

    def do_POST(self) -> None:
        book = self.server.book
        try:
            value = self.body()
            if self.path == "/entries":
                name, message = str(value.get("name") or "").strip(), str(value.get("message") or "").strip()
                if not name or not message:
                    raise ValueError("`name` and `message` are needed")
                self.reply({"id": book.add(name[:100], message[:5000])}, 201)
            elif self.path.startswith("/jobs/"):
                done = book.counted(int(self.path[6:]), int(str(value["words"])))
                self.reply({"ok": done}, 200 if done else 404)
            else:
                self.reply({"error": "no such page"}, 404)
        except (ValueError, KeyError) as error:
            self.reply({"error": str(error)}, 400)


class Api(live.Server):
    def __init__(self, port: int, book: Guestbook, source: live.Source | None = None) -> None:
        self.book = book
        super().__init__(port, Handler, source)


def main() -> None:
    source = live.Source(pathlib.Path(__file__).parent, pathlib.Path(live.__file__).parent)
    book = Guestbook(os.environ.get("DATABASE", "guestbook.db"))
    server = Api(int(os.environ.get("PORT", "8000")), book, source)
    print(f"api: listening on port {server.server_address[1]}", flush=True)
    server.run()
    book.database.close()


if __name__ == "__main__":
    main()
