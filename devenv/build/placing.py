"""Where something goes in an image: the target's path, and the folders that lead there."""

from __future__ import annotations

import errno
import os
import stat

from devenv import errors
from devenv.build import globs, inside, owners


def destination(target: str, cwd: str) -> str:
    """Absolute and clean; a slash or `/.` at its end, which say that it is a folder, stay."""
    target = "./" if target in {"", "."} else target
    path = globs.clean(target if target.startswith("/") else f"/{cwd}/{target}")
    if target.endswith("/."):
        return f"{path.rstrip('/')}/."
    return f"{path}/" if target.endswith("/") and path != "/" else path


def says_folder(path: str) -> bool:
    return path.endswith(("/", "/."))


def above(path: str) -> str:
    """The folder that has to be there before something is put at a destination."""
    return path if says_folder(path) else os.path.dirname(path)


def make(root: int, path: str, *, mode: int, owner: owners.Owner | None) -> list[str]:
    """The folder at a canonical path with all above it; what was missing. Raises ``BuildError`` and ``OSError``."""
    missing: list[str] = []
    here = path
    while not _is_there(root, here):
        missing.append(here)
        here = here.rpartition("/")[0]
    for each in reversed(missing):
        _make_one(root, each, mode=mode, owner=owner)
    return missing[::-1]


def _is_there(root: int, path: str) -> bool:
    try:
        os.close(inside.folder(root, path))
    except NotADirectoryError as exc:
        raise errors.BuildError(
            f"`/{_obstacle(root, path)}` in the image is no folder", hint="nothing can be put into it: remove it first"
        ) from exc
    except FileNotFoundError:
        if not path:
            raise
        return False
    return True


def _make_one(root: int, path: str, *, mode: int, owner: owners.Owner | None) -> None:
    parent, _, name = path.rpartition("/")
    opened = inside.folder(root, parent)
    try:
        os.mkdir(name, 0o700, dir_fd=opened)
    finally:
        os.close(opened)
    folder = inside.folder(root, path)
    try:
        if owner is not None:
            own(folder, owner)
        os.fchmod(folder, mode)
    finally:
        os.close(folder)


def own(place: int, owner: owners.Owner, *, name: str | None = None) -> bool:
    """``place`` itself, or what is called ``name`` in it. False where this user namespace has no such id."""
    try:
        if name is None:
            os.fchown(place, *owner)
        else:
            os.chown(name, *owner, dir_fd=place, follow_symlinks=False)
    except OSError as exc:
        # EINVAL: the id is not mapped, see user_namespaces(7); EPERM: only one's own is.
        if exc.errno not in {errno.EINVAL, errno.EPERM}:
            raise
        return False
    return True


def _obstacle(root: int, path: str) -> str:
    parts = path.split("/")
    for length in range(1, len(parts)):
        here = "/".join(parts[:length])
        if not stat.S_ISDIR(inside.status(root, here).st_mode):
            return here
    return path
