"""Folders that outlive containers: named volumes, and anonymous ones with 64 hexadecimal digits for a name.

    <data>/volumes/<project-id>/<name>/
        volume.json      name, driver, driver_opts, labels, created
        _data/           what is mounted; a new one is empty, and the first container fills it from its image

A volume appears and goes by one rename, so that it is there whole or not at all:

    .new-<name>-<random>  ->  <name>  ->  .old-<name>-<random>

The driver is ``local``. With ``driver_opts: {type: none, o: bind, device: DIR}`` the volume is that folder, which is
never removed. With another type it is that filesystem, which each container mounts: nfs, a disk, or a tmpfs, which is
as old as the container that has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.util import fs, paths, tree
from devenv.volume import stack, tmpfs

SHARED = "shared"  # in place of a project's id: volumes of no project, by `volume create`
_FOLDERS = frozenset({"", "none", "bind"})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)


class Volume(NamedTuple):
    name: str
    path: str  # what is mounted
    created: float
    driver: str = "local"
    driver_opts: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    anonymous: bool = False

    @property
    def filesystem(self) -> str:
        """What each container mounts in place of ``path``; "" for a folder of this machine."""
        kind = self.driver_opts.get("type", "")
        return "" if kind in _FOLDERS else kind

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(filter(None, self.driver_opts.get("o", "").split(",")))


class VolumeStore:
    """The volumes of one project."""

    def __init__(self, where: paths.Paths, project_id: str) -> None:
        self._root = f"{where.data}/volumes"
        self._project = project_id
        self._folder = where.volumes(project_id)

    def ensure(
        self,
        name: str,
        *,
        driver: str = "local",
        driver_opts: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        fill: Callable[[str], None] | None = None,
    ) -> Volume:
        """The volume, made if need be: then with what ``fill`` puts into ``_data`` of the folder that it is given.

        One that is there with other options is an error: its data stays as it is.
        """
        options = {key: str(value) for key, value in (driver_opts or {}).items()}
        _check_name(name)
        found = self.get(name)
        if found is None:
            _check_driver(name, driver, options)
            found = self._make(
                name, driver=driver, driver_opts=options, labels=dict(labels or {}), anonymous=False, fill=fill
            )
        if (found.driver, dict(found.driver_opts)) != (driver, options):
            raise errors.VolumeError(
                f"volume `{name}` is there, made with other options: {_describe(found.driver, found.driver_opts)}",
                hint=f"give it another name, or remove it and its data: rm -r {self._folder}/{name}",
            )
        if not options:
            with contextlib.suppress(FileExistsError):
                os.mkdir(found.path, 0o755)  # a removal that was cut short had kept it elsewhere
        elif not found.filesystem:
            _check_device(name, found.path)
        return found

    def ensure_anonymous(self) -> Volume:
        return self._make(os.urandom(32).hex(), driver="local", driver_opts={}, labels={}, anonymous=True)

    def get(self, name: str) -> Volume | None:
        return _read(self._folder, name) if NAME.fullmatch(name) else None

    def get_external(self, name: str) -> Volume | None:
        """A volume of this name, whoever made it. Raises ``VolumeError`` if several projects have one."""
        if not NAME.fullmatch(name):
            return None
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for project in sorted(os.listdir(self._root)):
                if volume := _read(f"{self._root}/{project}", name):
                    found[project] = volume
        if self._project in found:
            return found[self._project]
        if len(found) > 1:
            raise errors.VolumeError(
                f"volume `{name}` is external, and several projects have one: {', '.join(found)}",
                hint="give one of them a name of its own with `name:`",
            )
        return next(iter(found.values()), None)

    def list(self) -> list[Volume]:
        """Sorted by name."""
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        return [volume for name in names if (volume := self.get(name))]

    def remove(self, name: str) -> bool:
        """Remove the volume with its data; false when there is none. Nobody may use it any more."""
        _check_name(name)
        stack.unmounted(f"{self._folder}/{name}")
        trash = f"{self._folder}/.old-{name}-{os.urandom(4).hex()}"
        try:
            os.rename(f"{self._folder}/{name}", trash)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise errors.VolumeError(f"volume `{name}` can't be removed: {exc.strerror}") from exc
        self.sweep()
        return True

    def sweep(self) -> None:
        """Finish what was cut short; when the last volume is gone so is the project's folder."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if name.startswith(".old-") or (name.startswith(".new-") and self._is_stale(name)):
                    self._discard(name)
        with contextlib.suppress(OSError):  # ENOENT, or ENOTEMPTY: volumes are left
            os.rmdir(self._folder)

    def _is_stale(self, name: str) -> bool:
        """Nobody is at it, and nobody takes a minute to begin."""
        try:
            with _locked(f"{self._folder}/{name}", fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
                return os.fstat(held).st_mtime < time.time() - 60
        except (FileNotFoundError, BlockingIOError):
            return False

    def _discard(self, name: str) -> None:
        try:
            tree.remove(f"{self._folder}/{name}")
        except OSError as exc:
            raise errors.VolumeError(
                f"what was a volume can't be removed whole: {exc.strerror}",
                hint=f"something may be mounted in it: see findmnt, then rm -r {self._folder}/{name}",
            ) from exc

    def _make(
        self,
        name: str,
        *,
        driver: str,
        driver_opts: dict[str, str],
        labels: dict[str, str],
        anonymous: bool,
        fill: Callable[[str], None] | None = None,
    ) -> Volume:
        stage = f"{self._folder}/.new-{name}-{os.urandom(4).hex()}"
        record = {
            "name": name,
            "driver": driver,
            "driver_opts": driver_opts,
            "labels": labels,
            "created": time.time(),
            "anonymous": anonymous,
        }
        try:
            os.makedirs(stage, mode=0o700)
            if not driver_opts:
                os.mkdir(f"{stage}/_data")
                os.chmod(f"{stage}/_data", 0o755)
                if fill is not None:
                    with _locked(stage, fcntl.LOCK_SH):
                        fill(stage)
            fs.write_json(f"{stage}/volume.json", record, durable=not anonymous)
            try:
                os.rename(stage, f"{self._folder}/{name}")
            except FileExistsError:
                tree.remove(stage)  # another process was quicker
            except OSError as exc:
                if exc.errno != 39:  # ENOTEMPTY is what rename(2) says of a folder that is there
                    raise
                tree.remove(stage)
        except errors.DevenvError:
            tree.remove(stage)
            raise
        except OSError as exc:
            with contextlib.suppress(OSError):
                tree.remove(stage)
            raise errors.VolumeError(f"volume `{name}` can't be made: {exc.strerror}: `{self._folder}`") from exc
        found = self.get(name)
        if found is None:
            raise errors.VolumeError(
                f"volume `{name}` is broken: `{self._folder}/{name}` has no readable volume.json",
                hint=f"look at what is in it, then remove it: rm -r {self._folder}/{name}",
            )
        return found


@contextlib.contextmanager
def _locked(folder: str, how: int) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise errors.VolumeError(
            f"`{name}` is no name for a volume",
            hint="a name has up to 200 letters, digits, `_`, `.` and `-`, and begins with a letter or a digit",
        )


def _read(folder: str, name: str) -> Volume | None:
    record: Any = fs.read_json(f"{folder}/{name}/volume.json")
    if not isinstance(record, dict):
        return None
    options: dict[str, str] = record.get("driver_opts") or {}
    return Volume(
        name=name,
        path=options.get("device") or f"{folder}/{name}/_data",
        created=record["created"],
        driver=record["driver"],
        driver_opts=options,
        labels=record.get("labels") or {},
        anonymous=bool(record.get("anonymous")),
    )


def _describe(driver: str, options: Mapping[str, str]) -> str:
    return ", ".join([f"driver {driver}", *(f"{name}={value}" for name, value in sorted(options.items()))])


def _check_driver(name: str, driver: str, options: Mapping[str, str]) -> None:
    if driver != "local":
        raise errors.VolumeError(
            f"volume `{name}`: the driver `{driver}` is not built in", hint="leave `driver:` out, or write `local`"
        )
    if not options:
        return
    kind, flags = options.get("type", ""), set(options.get("o", "").split(","))
    unknown = sorted(set(options) - {"type", "o", "device"})
    if unknown:
        raise errors.VolumeError(
            f"volume `{name}`: `driver_opts` has no `{unknown[0]}`", hint="the driver `local` has type, o and device"
        )
    if kind not in _FOLDERS:
        if not options.get("device"):
            raise errors.VolumeError(
                f"volume `{name}`: `driver_opts` of type `{kind}` need a `device`",
                hint="device: :/path of the server and o: addr=SERVER for nfs; device: tmpfs for memory",
            )
        if kind == "tmpfs":
            tmpfs.options(options.get("o", ""), defaults=())
        return
    if not flags & {"bind", "rbind"}:
        raise errors.VolumeError(
            f"volume `{name}`: `driver_opts` of type `{kind or 'none'}` are no volume without `o: bind`",
            hint="for a folder of this machine write type: none, o: bind, device: DIR; else its filesystem as the type",
        )
    if not os.path.isabs(options.get("device", "")):
        raise errors.VolumeError(
            f"volume `{name}`: `device: {options.get('device', '')}` is not an absolute path",
            hint="write device: ${PWD}/DIR for a folder of the project",
        )


def _check_device(name: str, path: str) -> None:
    if not os.path.isdir(path):
        raise errors.VolumeError(f"volume `{name}`: its folder `{path}` does not exist", hint=f"mkdir -p {path}")
