"""Which program `runtime:` names, and what is known of it."""

from __future__ import annotations

import os
import sys

HINT = "install it, give the path of its program, or leave `runtime:` out for devenv's own"
# Those whose containers are processes of this kernel in namespaces that others can join.
_JOINABLE = frozenset({"crun", "runc", "youki", "devenv-oci"})
# Where distributions keep what an ordinary user's PATH leaves out.
_MORE_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(name: str) -> str | None:
    """A path, or a name to be looked up, which may be in containerd's long form: `io.containerd.runc.v2`."""
    if name.startswith("io.containerd.") and name.count(".") == 3:
        name = name.split(".")[2]
    if os.path.isabs(name):
        return name if _is_program(name) else None
    if "/" in name or not name:
        return None
    folders = [*(os.environ.get("PATH") or "").split(":"), *_MORE_FOLDERS]
    # Our own command is where our interpreter is, also when that is on nobody's PATH.
    folders += [os.path.dirname(sys.executable)] if name == "devenv-oci" else []
    paths = (f"{folder}/{name}" for folder in folders if os.path.isabs(folder))
    return next(filter(_is_program, paths), None)


def is_joinable(program: str) -> bool:
    return os.path.basename(program) in _JOINABLE


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
