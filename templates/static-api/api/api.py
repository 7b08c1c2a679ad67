"""The time, as JSON: an API of the standard library alone."""

import http.server
import json
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/api/time"
        body = json.dumps({"time": time.strftime("%H:%M:%S")} if found else {"error": "there is /api/time"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
