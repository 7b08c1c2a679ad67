"""Whether a task has to be run again: what it was made of when it last ended well, and what it is made of now.

    <data>/tasks/<project id>/<name>.json    {"fingerprint": "…", "time": 1764000000.0}

Files count by their contents and whether they may be executed, not by their times: a checkout changes those.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from devenv.util import fs, identity, paths


def take(directory: str, inputs: Iterable[str], rest: Mapping[str, Any]) -> str:
    """``inputs`` are patterns relative to ``directory``; a folder stands for all that is in it."""
    found = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for path in files(directory, inputs):
        found.update(os.fsencode(path) + b"\0" + content(os.path.join(directory, path)) + b"\0")
    return found.hexdigest()


def files(directory: str, patterns: Iterable[str]) -> list[str]:
    """What the patterns match, relative to the folder, sorted; hidden files too where a pattern names them."""
    found: set[str] = set()
    for pattern in patterns:
        for path in glob.glob(pattern, root_dir=directory, recursive=True):
            full = os.path.join(directory, path)
            if os.path.isdir(full) and not os.path.islink(full):
                found.update(os.path.relpath(each, directory) for each in _below(full))
            else:
                found.add(os.path.normpath(path))
    return sorted(found)


def missing(directory: str, patterns: Iterable[str]) -> list[str]:
    """Those that match nothing."""
    return [pattern for pattern in patterns if not glob.glob(pattern, root_dir=directory, recursive=True)]


def _below(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(top, name) for name in sorted(names))


def content(path: str) -> bytes:
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return b"-> " + os.fsencode(os.readlink(path))
        if not stat.S_ISREG(status.st_mode):
            return b"?"
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return (b"x" if status.st_mode & 0o100 else b"-") + digest
    except OSError:
        return b"!"


def is_same(where: paths.Paths, project: identity.Project, task: str, fingerprint: str) -> bool:
    found = fs.read_json(_path(where, project, task))
    return isinstance(found, dict) and found.get("fingerprint") == fingerprint


def keep(where: paths.Paths, project: identity.Project, task: str, fingerprint: str) -> None:
    path = _path(where, project, task)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fs.write_json(path, {"fingerprint": fingerprint, "time": time.time()})


def _path(where: paths.Paths, project: identity.Project, task: str) -> str:
    return f"{where.data}/tasks/{project.id}/{task}.json"
