"""Where devenv keeps its things: one answer for every process.

``DEVENV_DATA_HOME`` and ``DEVENV_RUNTIME_DIR`` move both trees. A process that enters a user namespace exports
them first, because inside it looks like root.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class Paths(NamedTuple):
    data: str  # survives a reboot: images, layers, volumes, containers
    run: str  # gone after a reboot: sockets, locks, fifos

    def container(self, container_id: str) -> str:
        return f"{self.data}/containers/{container_id}"

    def container_run(self, container_id: str) -> str:
        return f"{self.run}/containers/{container_id}"

    def container_files(self, container_id: str) -> str:
        """Its configs and secrets: in memory, where `<run>` is a tmpfs."""
        return f"{self.run}/files/{container_id}"

    def other_runtime(self, container_id: str) -> str:
        """What another runtime keeps of a container. A short path, since sockets are made in it."""
        return f"{self.run}/oci/{container_id[:16]}"

    def project_data(self, project_id: str) -> str:
        return f"{self.data}/projects/{project_id}"

    def project_run(self, project_id: str) -> str:
        return f"{self.run}/projects/{project_id}"

    def volumes(self, project_id: str) -> str:
        return f"{self.data}/volumes/{project_id}"

    def networks(self, project_id: str) -> str:
        return f"{self.data}/networks/{project_id}"


def locate() -> Paths:
    """Both trees for the calling user. Nothing is created."""
    data = os.environ.get("DEVENV_DATA_HOME")
    run = os.environ.get("DEVENV_RUNTIME_DIR")
    uid = os.geteuid()
    if not data:
        if uid == 0:
            data = "/var/lib/devenv"
        else:
            base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
            data = f"{base}/devenv"
    if not run:
        if uid == 0:
            run = "/run/devenv"
        else:
            base = os.environ.get("XDG_RUNTIME_DIR") or ""
            run = f"{base}/devenv" if base and os.path.isdir(base) else f"/tmp/devenv-{uid}"
    return Paths(os.path.abspath(data), os.path.abspath(run))


def prepare(paths: Paths) -> None:
    """Make both trees, private to their owner (CVE-2021-41091: others must not reach setuid files in layers).

    Raises ``PermissionError`` if a tree is there already and belongs to someone else, as a folder that another
    user planted in /tmp would.
    """
    for path in paths:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(1, "belongs to another user", path)
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.chmod(path, 0o700)
