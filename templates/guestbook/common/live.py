"""Programs that run their newest source: an edit is live at the next request, and no request is lost on the way.

``Server`` looks at its source files when a connection is waiting and has not been accepted yet. If one changed, the
process executes itself again and hands the listening socket on, so the waiting connection is answered by
the new code. Source that does not compile is reported and the old code goes on.
"""

from __future__ import annotations

import http.server
import os
import pathlib
import signal
import socket
import sys
import threading
import types

LISTENER = "LISTENER_FD"


class Source:
    """The Python files of some folders, and whether they differ from when this process began."""

    def __init__(self, *folders: str | os.PathLike[str]) -> None:
        self.folders = [pathlib.Path(folder) for folder in folders]
        self.seen = self.picture()

    def picture(self) -> dict[pathlib.Path, tuple[int, int, int]]:
        found = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*.py")):
                try:
                    status = path.stat()
                except FileNotFoundError:  # an editor is renaming its new file over the old one
                    continue
                found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def changed(self) -> bool:
        """True once for each change that can be run."""
        now = self.picture()
        if now == self.seen:
            return False
        changed = [path for path in now if now[path] != self.seen.get(path)]
        self.seen = now
        try:
            for path in changed:
                compile(path.read_bytes(), str(path), "exec")
        except (SyntaxError, ValueError, OSError) as error:
            print(f"kept the old code: {error}", flush=True)
            return False
        names = ", ".join(path.name for path in changed) or "a file is gone"
        print(f"source changed ({names}), starting again", flush=True)
        return True


def restart() -> None:
    """Become a new process image with the same pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # small answers leave at once
    wbufsize = -1  # and in one piece
    timeout = 30

    def send(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """One line a request, without the health checks and the address of the proxy."""
        if getattr(self, "path", "") != "/health":
            print(format % args, flush=True)


class Server(http.server.ThreadingHTTPServer):
    """Serves with the newest source and ends at once on SIGTERM, also as process 1."""

    request_queue_size = 128

    def __init__(self, port: int, handler: type[Handler], source: Source | None = None) -> None:
        inherited = os.environ.pop(LISTENER, None)
        super().__init__(("", port), handler, bind_and_activate=inherited is None)
        if inherited is not None:
            self.socket.close()
            self.socket = socket.socket(fileno=int(inherited))
            self.server_address = self.socket.getsockname()
        self.source = source
        self.leaving = threading.Event()  # handlers that wait for something give up when it is set
        self.busy = 0
        self.idle = threading.Condition()

    def leave(self) -> None:
        """Called before the process is replaced or ends; handlers get two seconds to finish."""
        self.leaving.set()
        with self.idle:
            self.idle.wait_for(lambda: self.busy == 0, timeout=2)

    def get_request(self) -> tuple[socket.socket, object]:
        if self.source is not None and self.source.changed():
            self.leave()
            os.set_inheritable(self.fileno(), True)
            os.environ[LISTENER] = str(self.fileno())
            restart()
        return super().get_request()

    def process_request(self, request: object, client_address: object) -> None:
        with self.idle:
            self.busy += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            with self.idle:
                self.busy -= 1
                self.idle.notify_all()

    def run(self) -> None:
        def end(signal_number: int, frame: types.FrameType | None) -> None:
            self.leaving.set()
            # shutdown() waits for the loop that this very handler interrupted.
            threading.Thread(target=self.shutdown, daemon=True).start()

        # Process 1 of a container has no default action for a signal: without a handler it would be ignored.
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        self.serve_forever(poll_interval=0.2)
        self.leave()
