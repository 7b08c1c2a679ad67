"""Jobs: services that are done once, and again only when what they are made of has changed.

    <data>/containers/<id>/inputs.json    what the container was started with: its files, and whose end it followed

A job is a service whose end others wait for (`service_completed_successfully`), or one that says `once: true`. Its
image and configuration are its container's, which is made anew when they change. Here is the rest: the files that it
has mounted, and the containers that it depends on.

Files are compared by what stat(2) says, and by their contents where that differs: a checkout there and back is no
change. They are looked at before the job begins, so whatever changes while it runs is a change. A job that writes into
its own inputs is run once more therefore; if the second time writes the same, it stays at that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import Any

from devenv.reconcile import desired, fingerprint, record
from devenv.spec import once
from devenv.util import fs, paths

_MOST_FILES = 20_000
_MOST_BYTES = 256 << 20
# A file that changes twice within this many seconds may have the same times both times.
_FRESH = 1.0
_SKIPPED = frozenset({".git"})
COMPLETED = "service_completed_successfully"

_Others = Iterable[record.Record]  # of the project


class _TooMuch(Exception):
    """More than can be compared at each `up`."""


def find(environment: desired.Environment) -> dict[str, once.Once]:
    """The jobs among the services."""
    waited = {
        other
        for service in environment.services.values()
        for other, terms in (service.get("depends_on") or {}).items()
        if terms.get("condition") == COMPLETED
    }
    said = {name: once.of(service) for name, service in environment.services.items()}
    wanted = {name: given or once.Once(name in waited) for name, given in said.items()}
    return {name: given for name, given in wanted.items() if given.wanted}


def begin(where: paths.Paths, environment: desired.Environment, made: record.Record, others: _Others) -> None:
    """Note what a job is about to be run with."""
    job = find(environment).get(made.service)
    if job is None:
        return
    files: dict[str, dict[str, str]] | None = None
    with contextlib.suppress(_TooMuch):
        files = _look(where, environment.directory, made, job, contents=True)
    _keep(where, made, {"files": files, "depends_on": _followed(made, others)})


def changed(where: paths.Paths, environment: desired.Environment, made: record.Record, others: _Others) -> str:
    """What is not as it was when the job was run, in words; "" when nothing is."""
    job = find(environment).get(made.service)
    kept = fs.read_json(_path(where, made))
    if job is None or not isinstance(kept, dict):
        return "nobody has noted what it was run with"
    now = _followed(made, others)
    for name, ids in sorted((kept.get("depends_on") or {}).items()):
        if set(ids) - set(now.get(name, ())):
            return f"`{name}` was made anew since it ran"
    with contextlib.suppress(_TooMuch):
        if kept.get("files") is not None:
            return _differing(where, environment, made, job, kept)
    return "its files are too many to compare; `once: {inputs: …}` says which count"


def forget(where: paths.Paths, project_id: str) -> None:
    """What jobs have done may have been undone: a volume has other data now."""
    for made in record.load_all(where, project_id):
        fs.remove(_path(where, made))


# -- whose end it followed -----------------------------------------------------------------------------------------


def _followed(made: record.Record, others: _Others) -> dict[str, list[str]]:
    mine = [each for each in others if each.service in made.depends_on and not each.oneoff]
    return {name: sorted(each.id for each in mine if each.service == name) for name in made.depends_on}


# -- files ---------------------------------------------------------------------------------------------------------


def _differing(
    where: paths.Paths, environment: desired.Environment, made: record.Record, job: once.Once, kept: dict[str, Any]
) -> str:
    before = kept["files"]
    found = _look(where, environment.directory, made, job, contents=False)
    for label in sorted(set(before) ^ set(found)):
        return f"`{label}` is another of its files"
    doubtful = [label for label in sorted(found) if found[label]["stat"] != before[label]["stat"]]
    if not doubtful:
        return ""
    again = _look(where, environment.directory, made, job, contents=True)
    for label in doubtful:
        if again[label]["content"] != before[label]["content"]:
            return f"`{label}` changed"
    _keep(where, made, {**kept, "files": again})
    return ""


def _look(
    where: paths.Paths, directory: str, made: record.Record, job: once.Once, *, contents: bool
) -> dict[str, dict[str, str]]:
    """By what they are called: a digest of what stat(2) says, and on request of what is in them."""
    if job.inputs is not None:
        listed = fingerprint.files(directory, job.inputs)
        groups = {"its inputs": [(path, os.path.join(directory, path)) for path in listed]}
    else:
        own = f"{where.container_files(made.id)}/"
        sources = {str(each["source"]) for each in made.mounts if each["type"] == "bind"}
        roots = sorted(source for source in sources if not source.startswith(own))
        groups = {_called(root, directory): list(_below(root)) for root in roots}
    if sum(map(len, groups.values())) > _MOST_FILES:
        raise _TooMuch
    return {label: _digests(files, contents=contents) for label, files in groups.items()}


def _called(path: str, directory: str) -> str:
    if path == directory:
        return "."
    return f"./{os.path.relpath(path, directory)}" if path.startswith(f"{directory}/") else path


def _below(root: str) -> Iterator[tuple[str, str]]:
    """A file is itself; a folder all that is in it."""
    if not os.path.isdir(root):
        yield "", root
        return
    count = 0
    for top, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted([*names, *(each for each in folders if os.path.islink(f"{top}/{each}"))]):
            count += 1
            if count > _MOST_FILES:
                raise _TooMuch
            path = os.path.join(top, name)
            yield os.path.relpath(path, root), path


def _digests(files: Iterable[tuple[str, str]], *, contents: bool) -> dict[str, str]:
    seen, read = hashlib.sha256(), hashlib.sha256()
    size, newest = 0, 0.0
    for name, path in files:
        found = _status(path)
        seen.update(f"{name}\0{found}\0".encode(errors="surrogateescape"))
        if found is not None:
            newest = max(newest, found[3] / 1e9)
            size += found[2]
        if size > _MOST_BYTES:
            raise _TooMuch
        if contents:
            read.update(os.fsencode(name) + b"\0" + fingerprint.content(path) + b"\0")
    # Times that are this young prove nothing the next time.
    proves = newest < time.time() - _FRESH or not contents
    return {"stat": seen.hexdigest() if proves else "", **({"content": read.hexdigest()} if contents else {})}


def _status(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return found.st_mode, found.st_ino, size, found.st_mtime_ns


def _keep(where: paths.Paths, made: record.Record, noted: dict[str, Any]) -> None:
    """A full disk keeps nothing from running; without a note it runs once more."""
    with contextlib.suppress(OSError):
        fs.remove(_path(where, made))
        fs.write_json(_path(where, made), noted)


def _path(where: paths.Paths, made: record.Record) -> str:
    return f"{where.container(made.id)}/inputs.json"
