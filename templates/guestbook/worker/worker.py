"""Reads what visitors write: takes one entry after another from the API and counts its words."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import signal
import sys
import time
import types
import urllib.error
import urllib.request

import live

API = os.environ.get("API", "http://api:8000")


def count(message: str) -> int:
    return len(message.split())


def call(path: str, value: object = None, *, api: str = API) -> dict[str, object] | None:
    data = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(api + path, data), timeout=30) as answer:
        body = answer.read()
    return json.loads(body) if body else None


def work_once(*, api: str = API, wait: float = 20) -> int | None:
    """The id of the entry that was done, or None when none came."""
    job = call(f"/jobs?wait={wait}", api=api)
    if job is None:
        return None
    words = count(str(job["message"]))
    call(f"/jobs/{job['id']}", {"words": words}, api=api)
    print(f"entry {job['id']} has {words} words", flush=True)
    return int(str(job["id"]))


def end(signal_number: int, frame: types.FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    # Process 1 of a container has no default action for a signal: without a handler it would be ignored.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    source = live.Source(pathlib.Path(__file__).parent, pathlib.Path(live.__file__).parent)
    print(f"worker: asks {API} for entries", flush=True)
    while True:
        if source.changed():
            live.restart()
        try:
            work_once(wait=2)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            print(f"the api does not answer ({error}), trying again", flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    main()
