"""Where a bind mount's source really is: a path of the person who wrote the spec, so links on the way are followed."""

from __future__ import annotations

import difflib
import os
import stat

from devenv import errors


def resolve(source: str, *, base: str, create: bool) -> str:
    """The real path of ``source``, which is relative to ``base``; ``~`` is the user's home.

    With ``create`` a missing source becomes a folder that belongs to whom its parent belongs to. Raises
    ``VolumeError`` if there is none, or if what is there can't be it.
    """
    real = real_path(source, base=base)
    try:
        status = os.stat(real)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(real):  # realpath leaves a link that leads to itself
            raise errors.VolumeError(f"bind source `{source}`: `{real}` is a link that leads to itself") from None
        if not create:
            raise _missing(source, real) from None
        _create(source, real)
        return real
    except OSError as exc:
        raise errors.VolumeError(f"bind source `{source}`: `{real}`: {exc.strerror}") from exc
    if source.endswith("/") and not stat.S_ISDIR(status.st_mode):
        raise errors.VolumeError(f"bind source `{source}` is a file, not a folder", hint="leave the last `/` out")
    return real


def real_path(source: str, *, base: str) -> str:
    if not source or "\0" in source:
        raise errors.VolumeError("a bind mount has an empty `source`")
    expanded = os.path.expanduser(source)
    if expanded.startswith("~"):
        raise errors.VolumeError(f"bind source `{source}`: there is no such user")
    return os.path.realpath(os.path.join(base, expanded))


def beneath(folder: str, path: str) -> str:
    """``path`` inside a volume, which containers write to: no link on the way is followed, and none leads out."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise errors.VolumeError(f"`subpath: {path}` does not stay in the volume")
    found = folder
    for part in parts:
        found = f"{found}/{part}"
        try:
            status = os.lstat(found)
        except OSError as exc:
            raise errors.VolumeError(
                f"`subpath: {path}` is not in the volume",
                hint="make it first, from a service that mounts the volume whole",
            ) from exc
        if stat.S_ISLNK(status.st_mode):
            raise errors.VolumeError(f"`subpath: {path}`: `{part}` is a symbolic link, which is not followed")
    return found


def _missing(source: str, real: str) -> errors.VolumeError:
    folder, name = os.path.split(real)
    try:
        near = difflib.get_close_matches(name, os.listdir(folder), n=1)
    except OSError:
        near = []
    hint = f"did you mean `{near[0]}`?" if near else "make it first, or allow `create_host_path`"
    there = f"`{real}`" if source == real else f"`{source}`: `{real}`"
    return errors.VolumeError(f"bind source {there} does not exist", hint=hint)


def _create(source: str, real: str) -> None:
    missing = []
    parent = real
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    try:
        owner = os.stat(parent)
        for path in reversed(missing):
            os.mkdir(path, 0o755)
            # As root in someone's project the folder is theirs, not root's.
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except FileExistsError:
        if not os.path.isdir(real):
            raise errors.VolumeError(f"bind source `{source}`: `{real}` is no folder") from None
    except OSError as exc:
        raise errors.VolumeError(
            f"bind source `{source}`: `{exc.filename}` can't be made: {exc.strerror}", hint=f"mkdir -p {real}"
        ) from exc
