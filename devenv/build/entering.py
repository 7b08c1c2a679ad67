"""A failed step's filesystem, to be entered: the same container with a shell in place of the command.

    <data>/build/failed/<id>/        upper/, work/, hosts, … of the step, as it left them
    <run>/build/failed-<id>/         config.json for an OCI runtime; in memory, since an environment may hold secrets

What was mounted of secrets and agents is gone by then, and the network is: it belonged to the step.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from devenv.build import steps
from devenv.util import fs, paths, tree


class Kept(NamedTuple):
    id: str
    folder: str
    place: str  # of the bundle; "" for a step that ran no command


def keep(where: paths.Paths, folder: steps.Folder) -> Kept:
    config = fs.read_json(f"{folder.private}/config.json")
    kept = steps.keep(where, folder)
    if not isinstance(config, dict):
        return Kept(folder.id, kept, "")
    place = f"{where.run}/build/failed-{folder.id[:16]}"
    os.makedirs(f"{place}/rootfs", mode=0o700, exist_ok=True)
    fs.write_json(f"{place}/config.json", _shell(config, folder, kept))
    return Kept(folder.id, kept, place)


def _shell(config: dict[str, Any], folder: steps.Folder, kept: str) -> dict[str, Any]:
    moved: dict[str, Any] = json.loads(json.dumps(config).replace(folder.path, kept))
    process = moved["process"]
    process |= {"terminal": True, "args": _words(process["args"])}
    moved["linux"].pop("cgroupsPath", None)
    moved["mounts"] = [each for each in moved["mounts"] if not _is_gone(each, folder)]
    return moved


def _words(args: list[str]) -> list[str]:
    """The shell that the line was for."""
    return args[:1] if len(args) > 2 and args[1] in {"-c", "-ec", "-lc", "-xc"} else ["/bin/sh"]


def _is_gone(mount: dict[str, Any], folder: steps.Folder) -> bool:
    source = str(mount.get("source") or "")
    return source.startswith(folder.private) or (mount.get("type") == "bind" and not os.path.exists(source))


def remove(kept: Kept) -> None:
    for path in (kept.folder, kept.place):
        if path:
            tree.remove(path)
