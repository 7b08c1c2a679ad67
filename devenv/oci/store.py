"""What is known of the containers of one `--root`, a folder each, gone after a reboot.

    <root>/<id>/state.json    pid with start time and boot, bundle, cgroup; replaced by rename
                config.json   the bundle's as it was at `create`: later changes to it have no effect
                start.sock    the gate at which the first process waits for `start`

The folder itself is the lock (flock(2)): every command that changes a container holds it. Its name is taken by
mkdir(2), so of two that create the same id one wins. A folder without a state belongs to a `create` that was killed; it
is cleared away by the next one.

Whether a container is created or running is asked of the gate, whether it is paused of its cgroup, whether it is
alive of its pid: the file only says how to ask.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

from devenv import errors
from devenv.oci import checks
from devenv.runtime import cgroup, state
from devenv.util import fs, identity, sockets, tree

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"


class Record(NamedTuple):
    """``state.json``."""

    id: str
    bundle: str
    rootfs: str
    version: str  # the bundle's ociVersion
    created: str  # RFC 3339
    owner: str
    annotations: dict[str, str]
    cgroup: str = ""
    made: tuple[str, ...] = ()  # cgroup folders that this container brought into being
    pid: int = 0
    start_time: int = 0
    boot: str = ""
    systemd: str = ""  # the unit, with the systemd cgroup manager


class Container:
    """One container's folder. Made by ``Store``."""

    def __init__(self, folder: str, record: Record | None) -> None:
        self.folder = folder
        self.id = os.path.basename(folder)
        self._record = record
        self._lock = -1

    @property
    def record(self) -> Record:
        if self._record is None:
            raise errors.ContainerError(f"container `{self.id}` was never whole: delete it with `--force`")
        return self._record

    @property
    def whole(self) -> bool:
        return self._record is not None

    @property
    def gate(self) -> str:
        return f"{self.folder}/start.sock"

    def save(self, record: Record) -> None:
        self._record = record
        fs.write_json(f"{self.folder}/state.json", record._asdict())

    def keep_config(self, config: dict[str, Any]) -> None:
        fs.write_json(f"{self.folder}/config.json", config)

    def config(self) -> dict[str, Any]:
        config = fs.read_json(f"{self.folder}/config.json")
        if not isinstance(config, dict):
            raise errors.ContainerError(f"the config of container `{self.id}` can't be read")
        return config

    def lock(self) -> None:
        """Until this process ends. Raises ``ContainerError`` when the container is gone meanwhile."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.path.isdir(self.folder) or os.fstat(descriptor).st_ino != os.stat(self.folder).st_ino:
            os.close(descriptor)
            raise missing(self.id)
        self._lock = descriptor
        self._record = _read(self.folder)

    def unlock(self) -> None:
        os.close(self._lock)
        self._lock = -1

    def remove(self) -> None:
        # By another name first: what is half removed must not be found.
        gone = f"{os.path.dirname(self.folder)}/.removing-{os.getpid()}-{self.id[:64]}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.folder, gone)
            tree.remove(gone)

    # -- what it is doing --

    def alive(self) -> bool:
        record = self.record
        return (
            record.pid > 0
            and record.boot == state.boot_id()
            and identity.process_start_time(record.pid) == record.start_time
        )

    def status(self) -> str:
        if not self.record.pid:
            return CREATING
        if not self.alive():
            return STOPPED
        if self.record.cgroup and cgroup.paused(self.record.cgroup):
            return PAUSED
        return CREATED if self._waits() else RUNNING

    def _waits(self) -> bool:
        try:
            sockets.connect(self.gate, kind=socket.SOCK_SEQPACKET).close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def oci_state(self, status: str | None = None) -> dict[str, Any]:
        """The specification's state, as hooks and `state` give it."""
        record = self.record
        status = status or self.status()
        found: dict[str, Any] = {"ociVersion": checks.VERSION, "id": record.id}
        found["pid"] = record.pid if status != STOPPED else 0
        return {**found, "status": status, "bundle": record.bundle, "annotations": record.annotations}

    def described(self) -> dict[str, Any]:
        """The same, and what `list` and `state` of other runtimes add to it."""
        record = self.record
        found = self.oci_state()
        annotations = found.pop("annotations")
        found |= {"rootfs": record.rootfs, "created": record.created}
        return {**found, **({"annotations": annotations} if annotations else {}), "owner": record.owner}


class Store:
    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def create(self, container_id: str) -> Container:
        """A new one, locked. Raises ``ContainerError`` if the id is taken."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        container = Container(f"{self.root}/{container_id}", None)
        for _ in range(3):
            try:
                os.mkdir(container.folder, 0o700)
            except FileExistsError:
                self._clear(container_id)
                continue
            container.lock()
            return container
        raise _taken(container_id)

    def _clear(self, container_id: str) -> None:
        """Of a `create` that was killed. Raises ``ContainerError`` for a container that is one, or is becoming one."""
        folder = f"{self.root}/{container_id}"
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _read(folder) is not None:
                raise _taken(container_id)
            Container(folder, None).remove()
        except BlockingIOError as exc:
            raise _taken(container_id) from exc
        finally:
            os.close(descriptor)

    def get(self, container_id: str) -> Container:
        """Raises ``ContainerError`` if there is none."""
        checks.container_id(container_id)
        folder = f"{self.root}/{container_id}"
        if not os.path.isdir(folder):
            raise missing(container_id)
        return Container(folder, _read(folder))

    def locked(self, container_id: str) -> Container:
        container = self.get(container_id)
        container.lock()
        return container

    def all(self) -> Iterator[Container]:
        """In the order of their ids. Raises ``FileNotFoundError`` when there is no such root."""
        for name in sorted(os.listdir(self.root)):
            record = None if name.startswith(".") else _read(f"{self.root}/{name}")
            if record is not None:
                yield Container(f"{self.root}/{name}", record)


def missing(container_id: str) -> errors.ContainerError:
    return errors.ContainerError(f"container `{container_id}` does not exist")


def _taken(container_id: str) -> errors.ContainerError:
    return errors.ContainerError(f"container with id exists: `{container_id}` already exists")


def _read(folder: str) -> Record | None:
    found = fs.read_json(f"{folder}/state.json")
    if not isinstance(found, dict):
        return None
    return Record(**{name: value for name, value in found.items() if name in Record._fields})
