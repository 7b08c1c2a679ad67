"""An image with the real programs that projects are made of: Debian with Postgres, Redis, nginx and their clients.

Made once for each checkout, by `./dev test` and not by the tests, which have no network:
``python -m tests.support.real`` writes ``.venv/real.tar`` with ``devenv image bootstrap`` and ``image save``.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

ARCHIVE = pathlib.Path(__file__).parents[2] / ".venv" / "real.tar"
PACKAGES = "postgresql,redis-server,nginx-light,curl,dnsutils"
NAME = "real:latest"

needed = pytest.mark.skipif(not ARCHIVE.exists(), reason="needs mmdebstrap and a mirror of Debian's packages")


def make() -> None:
    """Raises ``CalledProcessError``; nothing is left of it then."""
    with tempfile.TemporaryDirectory(prefix="dv-real-") as folder:
        environ = {**os.environ, "DEVENV_DATA_HOME": f"{folder}/d", "DEVENV_RUNTIME_DIR": f"{folder}/r"}
        devenv = str(pathlib.Path(sys.executable).parent / "devenv")
        for arguments in (
            ("image", "bootstrap", "debian", "bookworm", "-t", NAME, "--include", PACKAGES),
            ("image", "save", "-o", f"{folder}/real.tar", NAME),
        ):
            subprocess.run([devenv, *arguments], env=environ, check=True, capture_output=True)
        shutil.copyfile(f"{folder}/real.tar", f"{ARCHIVE}.new")
        os.rename(f"{ARCHIVE}.new", ARCHIVE)
        subprocess.run([devenv, "image", "rm", NAME], env=environ, check=True, capture_output=True)


if __name__ == "__main__":
    if not ARCHIVE.exists():
        make()
