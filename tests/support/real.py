"""Images with the real programs that projects are made of, as Debian has them.

``SERVICES`` has Postgres, Redis, nginx and their clients; ``APPS`` Flask, Django and Node. Made once for each checkout,
by `./dev test` and not by the tests, which have no network: ``python -m tests.support.real`` writes the archives into
``.venv`` with ``devenv image bootstrap`` and ``image save``.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / ".venv"


class Image(NamedTuple):
    name: str
    packages: str

    @property
    def archive(self) -> pathlib.Path:
        return FOLDER / f"{self.name}.tar"

    @property
    def needed(self) -> pytest.MarkDecorator:
        """For tests that can't do without it."""
        return pytest.mark.skipif(
            not self.archive.exists(), reason="needs mmdebstrap and a mirror of Debian's packages"
        )


SERVICES = Image("real", "postgresql,redis-server,nginx-light,curl,dnsutils")
APPS = Image("apps", "python3-flask,python3-django,nodejs")

ARCHIVE = SERVICES.archive
needed = SERVICES.needed


def make(image: Image) -> None:
    """Raises ``CalledProcessError``; nothing is left of it then."""
    with tempfile.TemporaryDirectory(prefix="dv-real-") as folder:
        environ = {**os.environ, "DEVENV_DATA_HOME": f"{folder}/d", "DEVENV_RUNTIME_DIR": f"{folder}/r"}
        devenv = str(pathlib.Path(sys.executable).parent / "devenv")
        name = f"{image.name}:latest"
        for arguments in (
            ("image", "bootstrap", "debian", "bookworm", "-t", name, "--include", image.packages),
            ("image", "save", "-o", f"{folder}/saved.tar", name),
        ):
            subprocess.run([devenv, *arguments], env=environ, check=True, capture_output=True)
        shutil.copyfile(f"{folder}/saved.tar", f"{image.archive}.new")
        os.rename(f"{image.archive}.new", image.archive)
        subprocess.run([devenv, "image", "rm", name], env=environ, check=True, capture_output=True)


if __name__ == "__main__":
    for each in (SERVICES, APPS):
        if not each.archive.exists():
            make(each)
