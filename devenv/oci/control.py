"""`kill`, `delete`, `pause` and `resume`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.oci import checks, store
from devenv.runtime import cgroup, hooks

if TYPE_CHECKING:
    from devenv.oci.main import Context

_SECONDS = 10


def kill(context: Context) -> int:
    number = checks.signal(context.given.signal)
    found = context.store.locked(context.given.id)
    if found.status() == store.STOPPED:
        # With a pid namespace of its own, nothing of it is left; else the first process may have gone before others.
        if context.given.all or (_processes(found) and number == signal.SIGKILL):
            _signal_all(found, number)
            return 0
        raise errors.ContainerError("container not running")
    if context.given.all or (number == signal.SIGKILL and not _has_pid_namespace(found)):
        _signal_all(found, number)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.record.pid, number)
    if number == signal.SIGKILL and found.record.cgroup and cgroup.paused(found.record.cgroup):
        # A frozen process of cgroup v1 doesn't even die.
        cgroup.freeze(found.record.cgroup, frozen=False)
    return 0


def _has_pid_namespace(found: store.Container) -> bool:
    """Its first process takes all others with it only if it is the first of its namespace."""
    return any(each["type"] == "pid" and not each.get("path") for each in found.config()["linux"]["namespaces"])


def _processes(found: store.Container) -> list[int]:
    return cgroup.pids(found.record.cgroup) if found.record.cgroup else []


def _signal_all(found: store.Container, number: int) -> None:
    pids = _processes(found) or ([found.record.pid] if found.alive() else [])
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def delete(context: Context) -> int:
    given = context.given
    try:
        found = context.store.locked(given.id)
    except errors.UsageError:
        raise
    except errors.ContainerError:
        if given.force:
            return 0
        raise
    if not found.whole:
        if not given.force:
            raise errors.ContainerError(f"container `{given.id}` was never whole", hint="delete it with `--force`")
        found.remove()
        return 0
    status = found.status()
    if status != store.STOPPED and not given.force:
        raise errors.ContainerError(f"cannot delete container {given.id} that is not stopped: {status}")
    destroy(context, found, found.config())
    return 0


def destroy(context: Context, found: store.Container, config: dict[str, Any]) -> None:
    """End whatever of the container runs, and undo what `create` did."""
    record = found.record
    if found.alive():
        _end(record.pid, record.cgroup)
    if record.cgroup:
        cgroup.destroy(record.cgroup)
        cgroup.discard(list(record.made))
    if record.systemd:
        from devenv.oci import scope

        try:
            scope.stop(record.systemd, user=context.rootless)
        except (errors.HostError, OSError) as exc:
            # With its cgroup the unit has lost all that it was for.
            context.log.warning(str(exc))
    seen = found.oci_state(store.STOPPED)
    found.remove()
    run_poststop(context, config, seen)


def run_poststop(context: Context, config: dict[str, Any], seen: dict[str, Any]) -> None:
    """Each of them, whatever the others do: their failure is a warning."""
    for hook in (config.get("hooks") or {}).get("poststop") or []:
        try:
            hooks.run({"hooks": {"poststop": [hook]}}, "poststop", seen)
        except (errors.ContainerError, OSError) as exc:
            context.log.warning(str(exc))


def _end(pid: int, path: str) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        cgroup.thaw(pid, path)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_SECONDS * 1000):
            raise errors.ContainerError(f"container init still running after {_SECONDS} s: process {pid}")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def pause(context: Context) -> int:
    found = context.store.locked(context.given.id)
    if found.status() not in {store.RUNNING, store.CREATED}:
        raise errors.ContainerError(f"container not running: it is {found.status()}")
    cgroup.freeze(_cgroup(found), frozen=True)
    return 0


def resume(context: Context) -> int:
    found = context.store.locked(context.given.id)
    if found.status() != store.PAUSED:
        raise errors.ContainerError("container not paused")
    cgroup.freeze(_cgroup(found), frozen=False)
    return 0


def _cgroup(found: store.Container) -> str:
    if not found.record.cgroup:
        raise errors.ContainerError("the container has no cgroup of its own")
    return found.record.cgroup
