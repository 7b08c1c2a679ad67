"""The guestbook's own programs on loopback, as processes and without containers."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

GUESTBOOK = pathlib.Path(__file__).parents[3] / "templates" / "guestbook"


class Program:
    """One program of the template, running from its own copy of the source."""

    def __init__(self, folder: pathlib.Path, script: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(folder / script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(folder / "common"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
        )

    def line(self, pattern: str) -> re.Match[str]:
        """The next line of output that matches."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            if found := re.search(pattern, line):
                return found
            seen.append(line)
        raise AssertionError(f"ended without {pattern!r}: {''.join(seen)}")

    def url(self) -> str:
        return "http://127.0.0.1:" + self.line(r"(?:port |localhost:)(\d+)")[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(GUESTBOOK, tmp_path / "guestbook"))


@contextlib.contextmanager
def running(folder: pathlib.Path, script: str, **environment: str) -> Iterator[Program]:
    program = Program(folder, script, **environment)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
        assert program.process.stdout is not None
        program.process.stdout.close()


@pytest.fixture
def api(folder: pathlib.Path) -> Iterator[str]:
    with running(folder, "api/api.py", PORT="0", DATABASE=str(folder / "guestbook.db")) as program:
        yield program.url()


def ask(url: str, value: object = None) -> tuple[int, object]:
    data = None if value is None else json.dumps(value).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if body else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def entries(url: str) -> list[dict[str, object]]:
    _, value = ask(f"{url}/entries")
    assert isinstance(value, dict)
    return value["entries"]  # type: ignore[no-any-return]


def test_an_entry_is_kept_and_listed(api: str) -> None:
    assert ask(f"{api}/health") == (200, {"ok": True})
    assert ask(f"{api}/entries", {"name": "Ada", "message": "Hello you"}) == (201, {"id": 1})
    assert [(e["name"], e["message"], e["words"]) for e in entries(api)] == [("Ada", "Hello you", None)]


@pytest.mark.parametrize("value", [{"name": "", "message": "x"}, {"name": "x"}, [], "text"])
def test_a_bad_entry_is_refused(api: str, value: object) -> None:
    status, answer = ask(f"{api}/entries", value)
    assert status == 400
    assert answer
    assert entries(api) == []


def test_an_unknown_page_is_404(api: str) -> None:
    assert ask(f"{api}/nowhere")[0] == 404


def test_no_job_is_204(api: str) -> None:
    assert ask(f"{api}/jobs?wait=0") == (204, None)


def test_the_worker_counts_words_and_ends_on_sigterm(folder: pathlib.Path, api: str) -> None:
    with running(folder, "worker/worker.py", API=api) as worker:
        ask(f"{api}/entries", {"name": "Ada", "message": "one two three"})
        assert worker.line(r"entry (\d+) has (\d+) words").groups() == ("1", "3")
        assert entries(api)[0]["words"] == 3
        assert worker.stop() == 0


def test_the_front_serves_its_site_and_passes_the_api_on(folder: pathlib.Path, api: str) -> None:
    with running(folder, "front/front.py", PORT="0", API=api) as front:
        url = front.url()
        with urllib.request.urlopen(f"{url}/", timeout=10) as page:
            assert page.headers["Content-Type"] == "text/html"
            assert b"<title>Guestbook</title>" in page.read()
        assert ask(f"{url}/api/entries", {"name": "Ada", "message": "Hi"}) == (201, {"id": 1})
        assert ask(f"{url}/api/entries", {"name": ""})[0] == 400
        assert entries(f"{url}/api")[0]["name"] == "Ada"
        for path in ("/../front.py", "/%2e%2e/front.py", "//etc/passwd", "/missing"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(url + path, timeout=10)
            assert caught.value.code == 404
            caught.value.close()
        assert front.stop() == 0


def test_the_front_says_that_the_api_is_away(folder: pathlib.Path) -> None:
    with running(folder, "front/front.py", PORT="0", API="http://127.0.0.1:1") as front:
        url = front.url()
        assert ask(f"{url}/api/entries")[0] == 502


def test_an_edit_shows_in_the_very_next_answer(folder: pathlib.Path) -> None:
    source = folder / "api" / "api.py"
    with running(folder, "api/api.py", PORT="0", DATABASE=str(folder / "guestbook.db")) as program:
        url = program.url()
        for turn in range(3):
            text = source.read_text()
            source.write_text(re.sub(r'GREETING = ".*"', f'GREETING = "Turn {turn}"', text))
            _, answer = ask(f"{url}/entries")
            assert isinstance(answer, dict)
            assert answer["greeting"] == f"Turn {turn}"


def test_source_that_does_not_compile_leaves_the_old_code_running(folder: pathlib.Path) -> None:
    source = folder / "api" / "api.py"
    good = source.read_text()
    with running(folder, "api/api.py", PORT="0", DATABASE=str(folder / "guestbook.db")) as program:
        url = program.url()
        source.write_text(good + "\nthis is no Python\n")
        assert ask(f"{url}/health") == (200, {"ok": True})
        program.line("kept the old code")
        source.write_text(good.replace("Welcome to", "Back at"))
        _, answer = ask(f"{url}/entries")
        assert isinstance(answer, dict)
        assert answer["greeting"] == "Back at the guestbook"


def test_data_outlives_the_program(folder: pathlib.Path) -> None:
    for number in (1, 2):
        with running(folder, "api/api.py", PORT="0", DATABASE=str(folder / "guestbook.db")) as program:
            url = program.url()
            assert ask(f"{url}/entries", {"name": "Ada", "message": "Hi"}) == (201, {"id": number})
            assert program.stop() == 0


def test_the_health_check_tells_up_from_down(folder: pathlib.Path, api: str) -> None:
    check = [sys.executable, "-I", "-S", str(folder / "common" / "healthy.py")]
    assert subprocess.run([*check, api.rpartition(":")[2]], stdout=subprocess.DEVNULL).returncode == 0
    assert subprocess.run([*check, "1"], stderr=subprocess.DEVNULL).returncode == 1
