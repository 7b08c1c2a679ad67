from __future__ import annotations

import json
import pathlib

import pytest

import devenv
from devenv import errors
from devenv.cli import init, version


def test_init_copies_and_says_what_is_next(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init.command()
    shown = capsys.readouterr()
    assert "guestbook/devenv.yaml" in shown.out.splitlines()
    assert shown.err.splitlines() == [
        "nothing in this folder is recognised, so here is a sample: `guestbook`",
        "next: cd guestbook && devenv up",
    ]
    assert (tmp_path / "guestbook" / "devenv.yaml").is_file()
    with pytest.raises(errors.UsageError, match="and nothing is overwritten"):
        init.command("guestbook")


def test_init_here(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init.command("guestbook", ".")
    assert capsys.readouterr().err == "next: devenv up\n"


def test_an_unknown_template_names_the_nearest() -> None:
    with pytest.raises(errors.UsageError) as caught:
        init.command("guestbok")
    assert caught.value.hint == "did you mean `guestbook`?"


def test_init_into_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.UsageError, match="can't write"):
        init.command("guestbook", str(tmp_path / "file"))


def test_init_lists(capsys: pytest.CaptureFixture[str]) -> None:
    init.command(show=True)
    assert "guestbook" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    version.command()
    version.command(short=True)
    version.command(output="json")
    words, number, document = capsys.readouterr().out.splitlines()
    assert words == f"devenv version {devenv.__version__}"
    assert number == devenv.__version__
    assert json.loads(document) == {"version": devenv.__version__}
    with pytest.raises(errors.UsageError):
        version.command(output="xml")
