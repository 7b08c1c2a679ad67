"""The wheel: what it holds, and that an installed copy runs and finds its templates away from the checkout."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from tests.support import isolation


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=isolation.REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("devenv_up-*.whl"))


def test_the_wheel_holds_the_package_the_templates_and_nothing_else(wheel: pathlib.Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "devenv/templates/guestbook/devenv.yaml" in names
    assert "devenv/templates/guestbook/front/site/index.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"devenv", "devenv_up"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    sources = {
        str(path.relative_to(isolation.REPOSITORY)) for path in (isolation.REPOSITORY / "devenv").glob("**/*.py")
    }
    assert sources <= set(names)


def test_an_installed_copy_runs_and_has_its_templates(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    # pip of the environment that runs the tests installs into the new one, with no network.
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *install], check=True, stdout=subprocess.DEVNULL)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        # The dependencies, but not the checkout: PYTHONPATH does not process .pth files.
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(str(python), "-c", "import devenv; print(devenv.__file__)").strip()
    assert where.startswith(str(tmp_path))
    run(str(tmp_path / "venv" / "bin" / "devenv"), "init", "guestbook", "mine")
    made = tmp_path / "mine" / "devenv.yaml"
    assert made.read_bytes() == (isolation.REPOSITORY / "templates/guestbook/devenv.yaml").read_bytes()
