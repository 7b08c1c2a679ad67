"""Making a container from a bundle: `create` leaves its first process waiting, `start` lets it go.

Called in the single-threaded monitor (or any process that is a child subreaper): both fork, neither may be called with
other threads about.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from devenv import errors
from devenv.runtime import cgroup, devicerules, devices, handshake, hooks, idmap, init, seccomp, userspace
from devenv.util import identity


class Created(NamedTuple):
    pid: int  # in our pid namespace
    start_time: int
    start_fd: int  # the wire to the waiting process
    tty_master_fd: int | None


def create(
    bundle_dir: str,
    config: dict[str, Any],
    *,
    container_id: str,
    stdio: tuple[int, int, int],
    spaces: userspace.Spaces,
) -> Created:
    """Raises ``ContainerError`` with the step that failed; then there is no process and no cgroup of it."""
    os.makedirs(f"{bundle_dir}/rootfs", exist_ok=True)
    linux = config.get("linux") or {}
    path = linux.get("cgroupsPath") or f"devenv/{container_id}"
    with translated():
        space = spaces.get(config, bundle_dir)
        group = cgroup.create(path, linux.get("resources") or {}, rules=device_rules(config), parents=True)
        try:
            return fork(
                init.Plan(bundle_dir, config, stdio, container_id=container_id, cgroups=group.folders, space=space),
                at_hooks=functools.partial(_run_hooks, config, container_id, bundle_dir),
            )
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is what is told
                cgroup.destroy(path)
            raise


def _run_hooks(config: dict[str, Any], container_id: str, bundle_dir: str, pid: int) -> dict[str, Any]:
    state = {
        "ociVersion": config["ociVersion"],
        "id": container_id,
        "status": "creating",
        "pid": pid,
        "bundle": bundle_dir,
        "annotations": config.get("annotations") or {},
    }
    for name in ("prestart", "createRuntime"):
        hooks.run(config, name, state)
    return state


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The kernel's refusals in words."""
    try:
        yield
    except OSError as exc:
        raise errors.ContainerError(f"{exc.filename or 'the container'}: {exc.strerror}") from exc


def device_rules(config: dict[str, Any]) -> list[devicerules.Rule]:
    """What the container's cgroup is to say of devices. Raises ``ContainerError``."""
    linux = config.get("linux") or {}
    given = list((linux.get("resources") or {}).get("devices") or [])
    for entry in linux.get("devices") or []:
        if "x-devenv-source" in entry:
            with contextlib.suppress(OSError):
                mode, number, _ = devices.described(entry)
                given.append(
                    {
                        "allow": True,
                        "type": "b" if stat.S_ISBLK(mode) else "c",
                        "major": os.major(number),
                        "minor": os.minor(number),
                        "access": entry["x-devenv-access"],
                    }
                )
    try:
        return devicerules.rules(given)
    except ValueError as exc:
        raise errors.ContainerError(str(exc)) from exc


def fork(plan: init.Plan, *, at_hooks: Callable[[int], dict[str, Any]] | None = None) -> Created:
    """The processes of one container, up to READY. The caller is a child subreaper.

    ``at_hooks`` is called with the first process' pid when its namespaces stand; it returns the state that the hooks
    of the container's own side are given. Raises ``ContainerError`` and ``OSError``; then no process is left.
    """
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
        pid = _first_process(ours, first, plan)
        try:
            return _await_ready(ours, pid, at_hooks)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            raise
    except BaseException:
        ours.close()
        raise


def _first_process(wire: socket.socket, first: int, plan: init.Plan) -> int:
    try:
        message = handshake.expect(wire, handshake.Word.USER, handshake.Word.PID)
        if message.word is handshake.Word.USER:
            idmap.write(first, plan.linux.get("uidMappings") or [], plan.linux.get("gidMappings") or [])
            handshake.say(wire, handshake.Word.MAPPED)
            message = handshake.expect(wire, handshake.Word.PID)
        return int(message.values["pid"])
    except BaseException:
        os.kill(first, signal.SIGKILL)
        raise
    finally:
        os.waitpid(first, 0)


def _await_ready(wire: socket.socket, pid: int, at_hooks: Callable[[int], dict[str, Any]] | None) -> Created:
    handshake.say(wire, handshake.Word.GO)
    message = handshake.expect(wire, handshake.Word.HOOKS, handshake.Word.READY)
    if message.word is handshake.Word.HOOKS:
        handshake.say(wire, handshake.Word.PASSED, state=at_hooks(pid) if at_hooks else {})
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
