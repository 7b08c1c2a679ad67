"""What the commands about volumes share: which there are, whose, and who uses them.

A name is looked for in the project of the current folder's first, then everywhere; ``PROJECT/NAME`` says which one,
where PROJECT is the project's id, as the folder below ``<data>/volumes`` is called.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import typer

from devenv import errors
from devenv.cli import context, inventory, options
from devenv.image import usage
from devenv.supervisor import engine, launch
from devenv.util import paths
from devenv.volume import stack, volume


class Owned(NamedTuple):
    project: str  # its id
    volume: volume.Volume

    @property
    def key(self) -> tuple[str, str]:
        return self.project, self.volume.name


def change() -> paths.Paths:
    """To read and write what is in volumes, which takes the user namespace that it belongs to."""
    where = paths.locate()
    launch.make_folders(where)
    engine.share_user_namespace(where)
    return where


def store(where: paths.Paths, project: str) -> volume.VolumeStore:
    return volume.VolumeStore(where, project)


def every(where: paths.Paths) -> list[Owned]:
    """Sorted by name."""
    folder = f"{where.data}/volumes"
    projects = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = [Owned(project, each) for project in projects for each in store(where, project).list()]
    return sorted(found, key=lambda each: (each.volume.name, each.project))


def find(ctx: typer.Context, where: paths.Paths, name: str) -> Owned:
    """Raises ``VolumeError`` where there is none, or more than one."""
    project, slash, rest = name.partition("/")
    found = [each for each in every(where) if each.volume.name == (rest if slash else name)]
    if slash:
        found = [each for each in found if each.project == project]
    if len(found) > 1:
        given: options.Globals = ctx.obj
        with contextlib.suppress(errors.DevenvError):
            here = context.find(given).identity.id
            found = [each for each in found if each.project == here] or found
    if len(found) > 1:
        names = ", ".join(f"`{each.project}/{each.volume.name}`" for each in found)
        raise errors.VolumeError(f"several projects have a volume `{name}`", hint=f"say which: {names}")
    if not found:
        hint = "`devenv volume ls` lists them"
        # By its key in the spec: it is named after the project.
        alike = [each.volume.name for each in every(where) if each.volume.name.endswith(f"_{name}")]
        raise errors.VolumeError(
            f"there is no volume `{name}`", hint=f"did you mean `{alike[0]}`?" if len(alike) == 1 else hint
        )
    return found[0]


def in_use(where: paths.Paths, owned: Owned) -> bool:
    """By a container that runs."""
    running = [item for item in inventory.load(where) if item.state in inventory.ACTIVE]
    return bool(users(where, running).get(owned.key))


@contextlib.contextmanager
def opened(where: paths.Paths, project: str, name: str) -> Iterator[str]:
    """Its folder, with all of its layers if it has some."""
    folder = f"{where.volumes(project)}/{name}"
    there = stack.is_mounted(folder)
    stack.mounted(folder, f"{where.data}/snapshots/{project}/layers")
    try:
        yield f"{folder}/{stack.DATA}"
    finally:
        if not there:
            with contextlib.suppress(errors.VolumeError):  # a container that started meanwhile has it, too
                stack.unmounted(folder)


def size(where: paths.Paths, owned: Owned) -> int:
    """On the disk. What a driver keeps elsewhere is not counted."""
    return usage.tree_size(f"{where.data}/volumes/{owned.project}/{owned.volume.name}")


def users(where: paths.Paths, containers: Iterable[inventory.Container]) -> dict[tuple[str, str], list[str]]:
    """By project and name: the ids of containers, stopped ones too. One may use another project's volumes."""
    folder = f"{where.data}/volumes/"
    found: dict[tuple[str, str], list[str]] = {}
    for item in containers:
        names = (*item.record.volumes, *item.record.anonymous_volumes)
        keys = {(item.record.project_id, name) for name in names}
        for mount in item.record.mounts:
            source = str(mount.get("source") or "")
            if source.startswith(folder):
                project, _, rest = source.removeprefix(folder).partition("/")
                keys.add((project, rest.partition("/")[0]))
        for key in keys:
            found.setdefault(key, []).append(item.record.id)
    return found
