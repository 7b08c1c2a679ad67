"""``./dev`` itself, with stand-ins for the environment that it would make."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

from tests.support import isolation, machine

TOOLS = ("sh", "dirname", "id", "cmp", "cat", "find", "sed", "cp", "rm", "env", "apt-get")


@pytest.fixture
def checkout(short_path: pathlib.Path) -> pathlib.Path:
    """A checkout that is set up: `python` and `devenv` print how they were called."""
    for name in ("dev", "pyproject.toml"):
        shutil.copy(isolation.REPOSITORY / name, short_path / name)
    (short_path / "templates" / "guestbook").mkdir(parents=True)
    binaries = short_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    shutil.copyfile(short_path / "pyproject.toml", short_path / ".venv" / ".dev-stamp")
    for name in ("python", "devenv"):
        (binaries / name).write_text(f'#!/bin/sh\necho "{name} $* in $PWD"; exit 7\n')
        (binaries / name).chmod(0o755)
    tools = short_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return short_path


def run(checkout: pathlib.Path, *arguments: str, **more: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "dev"), *arguments],
        cwd="/",
        env={"PATH": f"{checkout}/tools", "HOME": "/"},
        capture_output=True,
        text=True,
        **more,  # type: ignore[call-overload]
    )


@pytest.mark.root
def test_an_ordinary_user_gets_the_line_to_run_and_goes_on(checkout: pathlib.Path, plain_user: isolation.User) -> None:
    done = run(checkout, "up", "-d", user=plain_user.uid, group=plain_user.uid)
    assert done.stderr == "dev: for everything to work, run: sudo apt-get install -y uidmap\n"
    assert done.stdout == f"devenv up -d in {checkout}/templates/guestbook\n"
    assert done.returncode == 7


@pytest.mark.root
def test_arguments_reach_pytest_and_its_code_comes_back(checkout: pathlib.Path, plain_user: isolation.User) -> None:
    done = run(checkout, "test", "-k", "one or two", user=plain_user.uid, group=plain_user.uid)
    assert done.stdout == f"python -m pytest -n 4 --dist worksteal -k one or two in {checkout}\n"
    assert done.returncode == 7


@machine.needs_root
def test_what_could_not_be_installed_is_not_asked_for_again(checkout: pathlib.Path) -> None:
    calls = checkout / "calls"
    (checkout / "tools" / "apt-get").unlink()
    (checkout / "tools" / "apt-get").write_text(f'#!/bin/sh\necho "$*" >>{calls}; exit 1\n')
    (checkout / "tools" / "apt-get").chmod(0o755)
    first = run(checkout, "up")
    assert first.stderr.startswith("dev: installing uidmap\n")
    assert first.returncode == 7
    asked = calls.read_text()
    assert run(checkout, "up").stderr == ""
    assert calls.read_text() == asked


def test_an_unknown_command_shows_the_usage(checkout: pathlib.Path) -> None:
    done = run(checkout, "tset")
    assert done.returncode == 2
    assert "./dev test" in done.stderr


def test_it_works_through_a_folder_with_spaces(checkout: pathlib.Path) -> None:
    folder = checkout.parent / f"{checkout.name} with spaces"
    os.rename(checkout, folder)
    os.symlink(folder, checkout)
    assert f"in {folder}" in run(checkout, "up").stdout
