from __future__ import annotations

import subprocess
import sys

import pytest

from devenv.cli import app, bare

PROGRAM = "import sys; from devenv.cli import bare; print(bare.find(sys.argv[1:])()); print(*sys.modules)"


@pytest.mark.parametrize(
    ("argv", "taken"),
    [
        (["image", "pull", "redis"], True),
        (["image", "pull", "-q"], False),
        (["image", "pull", "redis", "-q"], False),
        (["image", "pull"], False),
        (["image", "push", "redis"], False),
        (["pull", "redis", "x"], False),
        ([], False),
    ],
)
def test_only_names_go_without_a_parser(argv: list[str], taken: bool) -> None:
    assert (bare.find(argv) is not None) == taken


def test_no_parser_is_imported_and_nothing_else_differs(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["image", "pull", "host:"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *argv], capture_output=True, text=True)
    code, modules = done.stdout.splitlines()
    assert {"typer", "click", "tomllib", "tarfile", "devenv.image.unpack"} & set(modules.split()) == set()
    assert int(code) == app.main(argv) == 2
    assert done.stderr == capsys.readouterr().err


def test_what_the_environment_asks_for_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPOSE_PROGRESS", "json")
    found = bare.find(["image", "pull", "host:"])
    assert found is not None
    assert found() == 2
    assert capsys.readouterr().err.startswith('{"error": true')
    monkeypatch.setenv("COMPOSE_PROGRESS", "loud")
    assert found() == 2
    assert "COMPOSE_PROGRESS is `loud`" in capsys.readouterr().err
