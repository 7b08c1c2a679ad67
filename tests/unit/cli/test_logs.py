from __future__ import annotations

import io
import json
import pathlib

import pytest

from devenv.cli import app, context, inventory, logview
from devenv.runtime import logs
from devenv.util import identity, paths
from tests.unit.cli import support


@pytest.fixture
def shown(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[inventory.Container]:
    web = support.write_log(tmp_path / "containers" / "web", "stdout one", "stderr two", "stdout three")
    db = support.write_log(tmp_path / "containers" / "db", "stdout ready")
    containers = [support.container("db-1", folder=db), support.container("web-1", folder=web)]
    containers.append(support.container("web-2", folder=web, oneoff=True))
    where = paths.Paths(str(tmp_path), str(tmp_path / "run"))
    found = context.Found(identity.Project(support.PROJECT_ID, "shop", str(tmp_path)), where, ("web", "db"))
    monkeypatch.setattr(context, "find", lambda _: found)
    monkeypatch.setattr(context.Found, "check_services", lambda _, names: list(names or ()))
    monkeypatch.setattr(inventory, "load", lambda *_: containers)
    return containers


@pytest.mark.parametrize(
    ("argv", "out"),
    [
        ([], ["db-1   | ready", "web-1  | one", "web-1  | two", "web-1  | three"]),
        (["web", "--no-log-prefix"], ["one", "two", "three"]),
        (["web", "--tail", "1"], ["web-1  | three"]),
        (["web", "--tail", "0"], []),
        (["web", "-t", "--tail=1"], ["web-1  | 2030-01-01T00:00:00.000000002Z three"]),
        (["web", "--until", "2029-01-01"], []),
        (["--since", "2031-01-01"], []),
        (["db", "--index", "1"], ["db-1  | ready"]),
        (["db", "--index", "2"], []),
    ],
)
def test_which_lines(
    shown: list[inventory.Container],
    argv: list[str],
    out: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main(["logs", *argv]) == 0
    captured = capsys.readouterr()
    assert sorted(captured.out.splitlines()) == sorted(out)
    assert captured.err == ""


def test_bytes_pass_unchanged_to_a_pipe(
    shown: list[inventory.Container], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    support.write_log(pathlib.Path(shown[0].folder), "stdout \x1b[2J\udcff\r")
    assert app.main(["logs", "db", "--no-log-prefix", "--tail", "1"]) == 0
    assert capfdbinary.readouterr().out == b"\x1b[2J\xff\r\n"


def test_following_ends_with_the_containers(
    shown: list[inventory.Container], capsys: pytest.CaptureFixture[str]
) -> None:
    for item in shown:
        (pathlib.Path(item.folder) / "state.json").write_text(json.dumps({"status": "stopped"}))
    shown[:] = [support.container(item.label, "exited", folder=item.folder) for item in shown[:2]]
    assert app.main(["logs", "-f"]) == 0
    shown_lines = sorted(capsys.readouterr().out.splitlines())
    assert shown_lines == ["db-1   | ready", "web-1  | one", "web-1  | three", "web-1  | two"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def line(data: bytes) -> logs.Line:
    return logs.Line("2030-01-01T00:00:00.000000000Z", "stdout", data, False)


@pytest.mark.parametrize(
    ("colour", "data", "seen"),
    [
        (True, b"\x1b[31mred\x1b]0;title\x07\r", "\x1b[36mweb-1  | \x1b[0m\x1b[31mred^[]0;title^G\x1b[0m\n"),
        (False, b"\x1b[31mred\x1b[2Jx", "web-1  | red^[[2Jx\n"),
        (False, b"10%\r20%\xff", "web-1  | 10%^M20%\\xff\n"),
    ],
)
def test_a_terminal_gets_colours_and_nothing_else(colour: bool, data: bytes, seen: str) -> None:
    stream = Terminal()
    printer = logview.Printer(colour=colour, stdout=stream, stderr=stream)
    container = support.container("web-1")
    printer.know([container])
    printer.line(container, line(data))
    assert stream.getvalue() == seen


def test_names_are_neutralised_and_aligned() -> None:
    stream = Terminal()
    printer = logview.Printer(colour=False, stdout=stream, stderr=stream)
    odd, plain = support.container("web-1", name="shop-\x1b[2J"), support.container("database-1")
    printer.know([odd, plain])
    printer.line(odd, line(b"x"))
    assert stream.getvalue() == "^[[2J       | x\n"
