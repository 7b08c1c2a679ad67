"""A project's folder on disk, written and edited by a test."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import textwrap
from collections.abc import Mapping


class Project:
    def __init__(self, path: pathlib.Path, uid: int | None = None) -> None:
        self.path = path
        self.uid = uid
        path.mkdir(parents=True, exist_ok=True)
        self._own(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def _own(self, path: pathlib.Path) -> None:
        if self.uid is not None and os.geteuid() == 0:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def write(self, files: Mapping[str, str | bytes] | str) -> Project:
        """A mapping of names to contents; a string is the text of ``devenv.yaml``."""
        for name, content in ({"devenv.yaml": files} if isinstance(files, str) else files).items():
            path = self.path / name
            missing = [parent for parent in path.parents if not parent.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else textwrap.dedent(content).lstrip("\n").encode()
            path.write_bytes(data)
            for changed in (*missing, path):
                self._own(changed)
        return self

    def edit(self, pattern: str, replacement: str, name: str = "devenv.yaml") -> Project:
        """Replace a regular expression, which must be there."""
        path = self.path / name
        text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
        assert count, f"{pattern!r} is not in {path}"
        path.write_text(text)
        return self

    def copy(self, source: str | os.PathLike[str]) -> Project:
        """The content of a folder, such as a template."""
        shutil.copytree(source, self.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        for parent, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                self._own(pathlib.Path(parent, name))
        return self
