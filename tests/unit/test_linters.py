"""The linters and the layering contracts, as tests; and that each package says what belongs in it."""

from __future__ import annotations

import ast
import os
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in REPOSITORY.glob("devenv/**/__init__.py"))


def run(*command: str) -> None:
    program = f"{os.path.dirname(sys.executable)}/{command[0]}"
    done = subprocess.run([program, *command[1:]], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_check() -> None:
    run("ruff", "check", "--quiet")


def test_ruff_format() -> None:
    run("ruff", "format", "--check", "--quiet")


@pytest.mark.timeout(400)
def test_mypy_strict() -> None:
    run("mypy", "--no-error-summary")


def test_layers() -> None:
    run("lint-imports", "--no-cache")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_package_says_what_belongs_in_it_and_re_exports_nothing(package: pathlib.Path) -> None:
    module = ast.parse((package / "__init__.py").read_text())
    assert (ast.get_docstring(module) or "TODO") != "TODO"
    if package.name != "devenv":
        assert len(module.body) == 1


def test_files_stay_readable() -> None:
    """style.md: a file holds one noun; past 800 lines it holds several."""
    counts = {path: len(path.read_text().splitlines()) for path in REPOSITORY.glob("devenv/**/*.py")}
    assert {str(path): count for path, count in counts.items() if count > 800} == {}


def test_dev_is_a_posix_script() -> None:
    for shell in ("sh", "dash", "bash"):
        if any(os.access(f"{folder}/{shell}", os.X_OK) for folder in os.get_exec_path()):
            subprocess.run([shell, "-n", str(REPOSITORY / "dev")], check=True)
