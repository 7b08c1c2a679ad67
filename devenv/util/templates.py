"""The templates that come with devenv: in the package when it is installed, beside it in a checkout.

A copy never overwrites: every file of the template is looked for in the target first.
"""

from __future__ import annotations

import importlib.resources
import os
import stat
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import NamedTuple


class Template(NamedTuple):
    name: str
    summary: str  # the first line of prose of its README.md
    root: Traversable


class Conflict(Exception):
    """Some of the template's files are in the target folder already; ``paths`` are relative to it."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(", ".join(paths))
        self.paths = paths


def root() -> Traversable:
    """The folder of all templates. Raises ``FileNotFoundError`` if this copy of devenv has none."""
    package = importlib.resources.files("devenv")
    for folder in (package / "templates", package / ".." / "templates"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(2, "this copy of devenv has no templates", str(package / "templates"))


def available() -> list[Template]:
    found = []
    for folder in sorted(root().iterdir(), key=lambda item: item.name):
        if (folder / "devenv.yaml").is_file():
            found.append(Template(folder.name, _summary(folder), folder))
    return found


def _summary(folder: Traversable) -> str:
    readme = folder / "README.md"
    if readme.is_file():
        for line in readme.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                return line.strip().partition(":")[0]
    return ""


def files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Every file of a template with its path in there, in a stable order."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.name == "__pycache__" or item.name.endswith(".pyc"):
            continue
        path = f"{prefix}{item.name}"
        if item.is_dir():
            yield from files(item, f"{path}/")
        else:
            yield path, item


def copy(template: Template, target: str) -> list[str]:
    """Put the template's files into ``target``, which is made if need be; returns their paths in there.

    Raises ``Conflict`` before anything is written if one of them exists, and ``OSError`` if one can't be written.
    """
    wanted = list(files(template.root))
    existing = [path for path, _ in wanted if os.path.lexists(f"{target}/{path}")]
    if existing:
        raise Conflict(existing)
    for path, source in wanted:
        os.makedirs(os.path.dirname(f"{target}/{path}"), exist_ok=True)
        mode = 0o755 if _executable(source) else 0o644
        # O_EXCL: also not over a file that somebody made since, nor through a link.
        descriptor = os.open(f"{target}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            file.write(source.read_bytes())
    return [path for path, _ in wanted]


def _executable(source: Traversable) -> bool:
    try:
        return bool(os.stat(str(source)).st_mode & stat.S_IXUSR)
    except OSError:  # in a zip file there are no modes
        return False
