"""Making a container from a bundle: `create` leaves its first process waiting, `start` lets it go.

Called in the single-threaded monitor (or any process that is a child subreaper): both fork, neither may be called with
other threads about.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import NamedTuple

from devenv import errors
from devenv.runtime import cgroup, handshake, init, seccomp
from devenv.util import fs, identity


class Created(NamedTuple):
    pid: int  # in our pid namespace
    start_time: int
    start_fd: int  # the wire to the waiting process
    tty_master_fd: int | None


def create(
    bundle_dir: str, *, container_id: str, run_dir: str, stdio: tuple[int, int, int], terminal: bool = False
) -> Created:
    """Raises ``ContainerError`` with the step that failed; then there is no process and no cgroup of it."""
    config = fs.read_json(f"{bundle_dir}/config.json")
    if not isinstance(config, dict):
        raise errors.ContainerError(f"container `{container_id[:12]}` has no readable `config.json`")
    os.makedirs(f"{bundle_dir}/rootfs", exist_ok=True)
    limits = (config.get("linux") or {}).get("resources") or {}
    path = (config.get("linux") or {}).get("cgroupsPath") or f"devenv/{container_id}"
    try:
        folders = cgroup.create(path, limits, devices=_device_rules(config))
        plan = init.Plan(bundle_dir, config, stdio, cgroups=folders)
        return _fork(plan)
    except BaseException as exc:
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            cgroup.destroy(path)
        if isinstance(exc, OSError):
            raise errors.ContainerError(f"{exc.filename or 'the container'}: {exc.strerror}") from exc
        raise


def _device_rules(config: dict[str, object]) -> list[str] | None:
    """What the cgroup v1 devices controller allows beside the usual; None for a privileged container: everything."""
    linux = config["linux"]
    assert isinstance(linux, dict)
    process = config["process"]
    assert isinstance(process, dict)
    if len(process["capabilities"]["bounding"]) > 38:
        return None
    rules = []
    for device in linux.get("devices") or []:
        with contextlib.suppress(OSError):
            found = os.stat(device["x-devenv-source"])
            kind = "b" if os.path.exists(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}") else "c"
            access = device["x-devenv-access"]
            rules.append(f"{kind} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} {access}")
    return rules


def _fork(plan: init.Plan) -> Created:
    ours, theirs = handshake.pair()
    first = os.fork()
    if first == 0:
        try:
            ours.close()
            init.child(plan, theirs)
        finally:
            os._exit(1)
    theirs.close()
    try:
        try:
            pid = int(handshake.expect(ours, handshake.Word.PID).values["pid"])
        finally:
            os.waitpid(first, 0)
        try:
            return _await_ready(ours, pid)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            raise
    except BaseException:
        ours.close()
        raise


def _await_ready(wire: socket.socket, pid: int) -> Created:
    handshake.say(wire, handshake.Word.GO)
    message = handshake.expect(wire, handshake.Word.READY)
    master = message.fds[0] if message.fds else None
    return Created(pid, identity.process_start_time(pid) or 0, wire.detach(), master)


def start(created: Created) -> None:
    """Raises ``ContainerError``, ``handshake.CommandError`` for a command that can't be run; closes the wire."""
    with socket.socket(fileno=created.start_fd) as wire:
        try:
            handshake.say(wire, handshake.Word.START)
            message = handshake.hear(wire)
            if message is not None and message.word is handshake.Word.LISTENER:
                seccomp.deliver(message, pid=created.pid)
                message = handshake.hear(wire)
        except OSError as exc:
            raise errors.ContainerError("the container's first process is gone") from exc
        if message is not None:
            raise handshake.failure(message.values)
