"""A shell in the filesystem that a failed step of a build left (``devenv build --debug``)."""

from __future__ import annotations

import json
import subprocess
import sys

from devenv.build import entering
from devenv.linux import mount, namespace
from devenv.runtime import bundle, overlay


def enter(kept: entering.Kept) -> None:
    """Until the shell is left. By the runtime's own command, which joins terminals and is safe from what it enters."""
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from devenv.cli import failedstep; failedstep.main(*sys.argv[1:])"
    )
    subprocess.run([sys.executable, "-c", program, kept.place, f"failed-{kept.id[:16]}"], check=False)


def main(folder: str, name: str) -> None:
    """In a process of its own: its root is an overlay in this one's mount namespace, gone with it."""
    from devenv.oci import entry

    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE)
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        layout = json.loads(json.load(file)["annotations"][bundle.ROOTFS])
    [root] = [each for each in layout["overlays"] if each["target"] == "/"]
    overlay.mounted(root, f"{folder}/rootfs", in_user_namespace=not namespace.in_initial_user_namespace())
    entry.begin(["--root", f"{folder}/state", "run", "--bundle", folder, name])
