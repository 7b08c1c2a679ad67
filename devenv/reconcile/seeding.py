"""`seed:`, an archive with data for the project's volumes, as `devenv snapshot export` writes it.

    data/…      what the volume with the key `data` has, its owner and mode on the folder itself
    uploads/…

A volume that is made gets its part before anybody can see it; one that is there keeps what it has. So a newcomer's
first `up` has the data, and nobody's is ever replaced.
"""

from __future__ import annotations

import functools
import os
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

from devenv import errors
from devenv.reconcile import desired
from devenv.runtime import unpacking
from devenv.volume import stack

Fill = Callable[[str], None]


def named(project: Mapping[str, Any]) -> str:
    """As the spec has it; empty without one."""
    return str((project.get("x-devenv") or {}).get("seed") or project.get("seed") or "")


def problem(environment: desired.Environment) -> str:
    """Why it can't be used, for people; empty if it can, or isn't asked for."""
    if not named(environment.project):
        return ""
    path = _path(environment)
    if not os.path.isfile(path):
        return f"`seed: {named(environment.project)}` is not there: `{path}`"
    return ""


def fill(environment: desired.Environment, volume: str) -> Fill | None:
    """What puts the seed's part of a volume, by its full name, into the folder where that is being made."""
    key = next((key for key, each in environment.definitions("volumes").items() if each["name"] == volume), None)
    if key is None or not named(environment.project):
        return None
    return functools.partial(unpack, _path(environment), key)


def _path(environment: desired.Environment) -> str:
    return os.path.join(environment.directory, os.path.expanduser(named(environment.project)))


def keys(path: str) -> list[str]:
    """The volumes that the archive has something of. Raises ``VolumeError``."""
    try:
        with tarfile.open(path, mode="r|*") as archive:
            return list(dict.fromkeys(key for member in archive if (key := _parts(member.name)[0])))
    except (OSError, tarfile.TarError) as exc:
        raise _unreadable(path, exc) from exc


def unpack(path: str, key: str, folder: str) -> None:
    """The archive's part ``key``, as ``_data`` in ``folder``. Raises ``VolumeError``."""

    def rename(name: str) -> str | None:
        own, rest = _parts(name)
        return f"{stack.DATA}/{rest}".rstrip("/") if own == key else None

    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(path, "rb") as stream:
            unpacking.Unpacker(root, "/", unpacking.Policy(owners=True), rename=rename).run(stream)
    except errors.DevenvError as exc:
        raise errors.VolumeError(f"`{path}` can't be unpacked: {exc.message}") from exc
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    finally:
        os.close(root)


def _parts(name: str) -> tuple[str, str]:
    key, _, rest = name.removeprefix("./").strip("/").partition("/")
    return key.strip("."), rest


def _unreadable(path: str, exc: Exception) -> errors.VolumeError:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return errors.VolumeError(f"`{path}` can't be unpacked: {reason}")
