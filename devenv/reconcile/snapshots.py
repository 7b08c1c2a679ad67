"""Which containers hold the volumes that snapshots are about, and the mounts that these volumes need."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from devenv import errors
from devenv.reconcile import record
from devenv.runtime import bundle, copyup, state
from devenv.util import fs, paths
from devenv.volume import stack

_RUNS = frozenset({"creating", "created", "running", "paused"})


def refuse_guests(where: paths.Paths, project_id: str, names: Iterable[str]) -> None:
    """Raises ``VolumeError`` when a container of another project uses one of the volumes: it is not ours to stop."""
    for name in names:
        for made in _running(where, where.volumes(project_id) + f"/{name}"):
            if made.project_id != project_id:
                raise errors.VolumeError(
                    f"`{made.name}` of another project uses the volume `{name}`",
                    hint=f"stop it first: devenv -p {made.project} stop {made.service}",
                )


def hold(where: paths.Paths, project_id: str, ids: Iterable[str]) -> None:
    """Write down who is about to be paused or stopped for a moment: whoever comes after a kill lets them go on."""
    os.makedirs(os.path.dirname(_held_file(where, project_id)), mode=0o700, exist_ok=True)
    fs.write_json(_held_file(where, project_id), sorted(ids))


def held(where: paths.Paths, project_id: str) -> tuple[str, ...]:
    found = fs.read_json(_held_file(where, project_id))
    return tuple(found) if isinstance(found, list) else ()


def let_go(where: paths.Paths, project_id: str) -> None:
    fs.remove(_held_file(where, project_id))


def _held_file(where: paths.Paths, project_id: str) -> str:
    return f"{where.data}/snapshots/{project_id}/held"


def mount_volumes(where: paths.Paths, made: record.Record) -> None:
    """Before a container starts: those of its volumes that are overlays are where it looks for them."""
    stacked = list(_stacked(where, made))
    # Of an overlay no ids can be mapped, as those of a container in a user namespace of its own are.
    mapped = stacked and bundle.load(where.container(made.id), name=made.name)["linux"].get("uidMappings")
    for folder, layers in stacked:
        if mapped:
            _flatten(where, made, folder, layers)
        else:
            stack.mounted(folder, layers)


def _flatten(where: paths.Paths, made: record.Record, folder: str, layers: str) -> None:
    for other in _running(where, folder):
        if other.id != made.id:
            raise errors.VolumeError(
                f"the volume `{os.path.basename(folder)}` is an overlay since its snapshot, on which no ids can be "
                f"mapped (`userns_mode: auto`), and `{other.name}` uses it so",
                hint=f"stop `{other.service}` and start `{made.service}` before it",
            )
    try:
        stack.flatten(folder, layers, copyup.fill)
    except OSError as exc:
        raise errors.VolumeError(
            f"the volume `{os.path.basename(folder)}` can't be made one folder again: {exc.strerror}"
        ) from exc


def unmount_volumes(where: paths.Paths, project_id: str) -> None:
    """When nothing of a project runs any more, unless another project's containers use them."""
    root = where.volumes(project_id)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(root):
            folder = f"{root}/{name}"
            if stack.is_mounted(folder) and not any(_running(where, folder)):
                with contextlib.suppress(errors.VolumeError):
                    stack.unmounted(folder)


def uppers(where: paths.Paths, made: record.Record) -> list[tuple[str, str]]:
    """The folders that a container has written to, one for each overlay of its root, and where that is."""
    return [(each["target"], each["upper"]) for each in _overlays(where, made)]


def writable(where: paths.Paths, made: record.Record) -> list[str]:
    """All folders that a container's own files are in, those that overlayfs works in with them."""
    return [each[part] for each in _overlays(where, made) for part in ("upper", "work")]


def _overlays(where: paths.Paths, made: record.Record) -> list[dict[str, Any]]:
    config = bundle.load(where.container(made.id), name=made.name)
    layout = json.loads((config.get("annotations") or {}).get(bundle.ROOTFS) or "{}")
    return list(layout.get("overlays") or [])


def _stacked(where: paths.Paths, made: record.Record) -> Iterator[tuple[str, str]]:
    root = f"{where.data}/volumes/"
    for mount in made.mounts:
        source = str(mount.get("source") or "")
        if mount.get("type") == "volume" and source.startswith(root):
            project, name = source.removeprefix(root).split("/")[:2]
            if os.path.exists(f"{root}{project}/{name}/stack.json"):
                yield f"{root}{project}/{name}", f"{where.data}/snapshots/{project}/layers"


def _running(where: paths.Paths, folder: str) -> Iterator[record.Record]:
    for made in record.load_all(where):
        if any(str(mount.get("source") or "").startswith(f"{folder}/") for mount in made.mounts):
            found = state.load(where.container(made.id))
            if found is not None and found.status in _RUNS and found.pid is not None:
                yield made
