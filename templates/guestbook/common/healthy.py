"""Exit 0 when the server on this port answers ``GET /health`` with 200. Run as ``python3 -I -S healthy.py PORT``."""

import socket
import sys

try:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        status = connection.makefile("rb").readline().decode("latin-1").strip()
except OSError as error:
    sys.exit(f"no answer: {error}")
print(status)
sys.exit(0 if " 200 " in f"{status} " else 1)
