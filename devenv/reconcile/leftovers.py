"""What earlier runs have left on this machine, for ``doctor``: it only looks, and names the command that cleans up.

Dead processes leave nothing by themselves: containers' mounts go with their namespaces, and the next command takes up
what is on disk. What remains is what nobody will come back for.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator

from devenv.network import bridge
from devenv.reconcile import facts, record
from devenv.runtime import state
from devenv.util import sockets

NAME = "leftovers"
_OLD = 3600.0  # seconds after which nobody is still at work on it


def look(machine: facts.Machine) -> Iterator[facts.Check]:
    found = [*projects(machine), *bridges(machine), *unfinished(machine)]
    yield from found or [facts.Check(NAME, facts.Status.OK, "none")]


def _left(found: str, fix: str) -> facts.Check:
    return facts.Check(NAME, facts.Status.WARN, found, fix)


def projects(machine: facts.Machine) -> Iterator[facts.Check]:
    """Containers whose folder has been deleted, and such that run and nobody looks after."""
    records = record.load_all(machine.where)
    folders = {each.project_id: (each.project, each.project_dir) for each in records}
    for project_id, (name, folder) in sorted(folders.items()):
        mine = [each for each in records if each.project_id == project_id]
        running = [each for each in mine if (seen := state.load(machine.where.container(each.id))) and _runs(seen)]
        if not os.path.isdir(folder):
            fix = f"cd / && devenv --project-directory {shlex.quote(folder)} -p {name} down"
            yield facts.Check(
                "leftovers", facts.Status.WARN, f"`{name}` has containers, but its folder `{folder}` is gone", fix
            )
        elif running and not _answers(f"{machine.where.project_run(project_id)}/supervisor.sock"):
            found = f"{len(running)} of `{name}` run with nobody who restarts them, or checks their health"
            yield facts.Check(
                "leftovers", facts.Status.WARN, found, f"cd {shlex.quote(folder)} && devenv up -d --no-recreate"
            )


def _runs(seen: state.State) -> bool:
    return seen.status in {"running", "paused"}


def _answers(path: str) -> bool:
    try:
        sockets.connect(path).close()
    except OSError:
        return False
    return True


def bridges(machine: facts.Machine) -> Iterator[facts.Check]:
    """Of networks that are not on disk any more. Whatever still has a member may be another installation's."""
    if machine.rootless:
        return
    left = []
    for name in sorted(os.listdir("/sys/class/net")):
        alias = machine.read(f"/sys/class/net/{name}/ifalias") or ""
        members = f"/sys/class/net/{name}/brif"
        if not alias.startswith(bridge.ALIAS) or not os.path.isdir(members) or os.listdir(members):
            continue
        project_id = alias.removeprefix(bridge.ALIAS).partition(":")[0]
        if not os.path.isdir(f"{machine.where.data}/networks/{project_id}"):
            left.append(name)
    if left:
        fix = " && ".join(f"ip link del {name}" for name in left)
        yield _left(f"bridges that nobody is in: {', '.join(left)}", fix)


def unfinished(machine: facts.Machine) -> Iterator[facts.Check]:
    """What was being unpacked, built or removed when its process was killed."""
    count = 0
    for folder, beginnings in (("stage", ("",)), ("containers", (".new-", ".old-"))):
        with contextlib.suppress(OSError), os.scandir(f"{machine.where.data}/{folder}") as entries:
            for entry in entries:
                if entry.name.startswith(beginnings) and not entry.name.endswith(".lock"):
                    count += machine.now() - entry.stat(follow_symlinks=False).st_mtime > _OLD
    if count:
        found = f"{count} unfinished {'folder' if count == 1 else 'folders'} in {machine.where.data}"
        yield _left(found, "devenv system prune")
