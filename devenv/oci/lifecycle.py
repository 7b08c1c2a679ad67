"""`create`, `start` and `run`."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.linux import process as linux_process
from devenv.oci import checks, console, control, foreground, store
from devenv.runtime import cgroup, container, handshake, hooks, init, seccomp, state
from devenv.util import sockets

if TYPE_CHECKING:
    from devenv.oci.main import Context


def create(context: Context) -> int:
    _create(context, detached=True)
    return 0


def start(context: Context) -> int:
    found = context.store.locked(context.given.id)
    _start(context, found)
    return 0


def run(context: Context) -> int:
    given = context.given
    found, config, pid, master = _create(context, detached=given.detach)
    forwarder = foreground.Forwarder(pid, master) if not given.detach else None
    try:
        _start(context, found)
    except BaseException:
        if forwarder is not None:
            forwarder.close()
        control.destroy(context, found, config)
        raise
    if forwarder is None:
        return 0
    found.unlock()
    code = forwarder.wait()
    if not given.keep:
        found.lock()
        control.destroy(context, found, config)
    return code


def _load(context: Context) -> tuple[str, dict[str, Any]]:
    import json

    bundle = os.path.abspath(context.given.bundle)
    path = os.path.join(bundle, context.given.config)
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except FileNotFoundError as exc:
        raise errors.ContainerError(f"JSON specification file {path} not found: no such file or directory") from exc
    except (ValueError, RecursionError) as exc:
        raise errors.ContainerError(f"{path}: {exc}") from exc
    return bundle, checks.config(found, warn=context.log.warning)


def _create(context: Context, *, detached: bool) -> tuple[store.Container, dict[str, Any], int, int | None]:
    """The container, its config, its pid, and the terminal's master if it stays with us."""
    given = context.given
    checks.container_id(given.id)
    bundle, config = _load(context)
    keep = descriptors(context, config["process"])
    tty = bool(config["process"].get("terminal"))
    console.check(tty=tty, detached=detached, socket_path=given.console_socket)
    rootfs = os.path.realpath(os.path.join(bundle, config["root"]["path"]))
    if not os.path.isdir(rootfs):
        raise errors.ContainerError(f"invalid rootfs: `{rootfs}`: no such file or directory")
    linux_process.prctl(linux_process.PR_SET_CHILD_SUBREAPER, 1)
    found = context.store.create(given.id)
    made: list[str] = []
    try:
        record = store.Record(
            id=given.id,
            bundle=bundle,
            rootfs=rootfs,
            version=config["ociVersion"],
            created=_now(),
            owner=_owner(),
            annotations=config.get("annotations") or {},
            boot=state.boot_id(),
        )
        found.keep_config(config)
        pid, master = _make(context, found, config, record, keep=keep, made=made)
    except BaseException:
        cgroup.discard(made)
        found.remove()
        raise
    try:
        if given.console_socket:
            assert master is not None
            console.send(given.console_socket, master)
            master = None
        if given.pidfd_socket:
            console.send_pidfd(given.pidfd_socket, pid)
        if given.pid_file:
            console.write_pid(given.pid_file, pid)
    except BaseException:
        control.destroy(context, found, config)
        raise
    return found, config, pid, master


def _make(
    context: Context,
    found: store.Container,
    config: dict[str, Any],
    record: store.Record,
    *,
    keep: list[int],
    made: list[str],
) -> tuple[int, int | None]:
    if context.cgroup_manager != "systemd":
        path = config["linux"].get("cgroupsPath") or f"devenv-oci/{record.id}"
        return _made_in(context, found, config, record, path, keep=keep, made=made)
    from devenv.oci import scope

    with scope.held(config, record.id, user=context.rootless) as held:
        record = record._replace(systemd=held.unit)
        pid, master = _made_in(context, found, config, record, held.path, keep=keep, made=made)
        held.take(pid)
        return pid, master


def _made_in(
    context: Context,
    found: store.Container,
    config: dict[str, Any],
    record: store.Record,
    path: str,
    *,
    keep: list[int],
    made: list[str],
) -> tuple[int, int | None]:
    path, group = _cgroups(context, config, path)
    made += group.made
    record = record._replace(cgroup=path, made=tuple(group.made))
    context.log.debug(f"cgroup {path or 'none'}: {' '.join(group.folders)}")
    gate = sockets.listen(found.gate, kind=socket.SOCK_SEQPACKET)
    plan = init.Plan(
        record.bundle,
        config,
        (0, 1, 2),
        container_id=record.id,
        cgroups=group.folders,
        exact=True,
        gate=gate,
        keep=keep,
        pivot=not context.given.no_pivot,
        keyring=not context.given.no_new_keyring,
    )

    def at_hooks(pid: int) -> dict[str, Any]:
        found.save(record._replace(pid=pid, start_time=_start_time(pid)))
        seen = found.oci_state(store.CREATING)
        # The deprecated ones were there before there was a word for this state.
        hooks.run(config, "prestart", {**seen, "status": store.CREATED})
        hooks.run(config, "createRuntime", seen)
        _give_interfaces(config, pid)
        return seen

    with container.translated():
        try:
            made_it = container.fork(plan, at_hooks=at_hooks)
        except BaseException:
            _after_failure(context, found, config)
            raise
    context.log.debug(f"process {made_it.pid} waits for `start` in {record.rootfs}")
    gate.close()
    os.close(made_it.start_fd)
    found.save(record._replace(pid=made_it.pid, start_time=made_it.start_time))
    return made_it.pid, made_it.tty_master_fd


def _after_failure(context: Context, found: store.Container, config: dict[str, Any]) -> None:
    """A hook that has run means that poststop runs, too."""
    if found.whole:
        control.run_poststop(context, config, found.oci_state(store.STOPPED))


def _give_interfaces(config: dict[str, Any], pid: int) -> None:
    wanted = config["linux"].get("netDevices") or {}
    if wanted:
        from devenv.runtime import netdevices

        netdevices.give(wanted, pid)


def _start_time(pid: int) -> int:
    from devenv.util import identity

    return identity.process_start_time(pid) or 0


def _cgroups(context: Context, config: dict[str, Any], path: str) -> tuple[str, cgroup.Group]:
    """The path of the container's cgroup, "" for none, and its folders."""
    limits = config["linux"].get("resources") or {}
    if context.cgroup_manager == "disabled":
        return "", cgroup.Group([], [])
    alone = context.cgroup_manager != "systemd"  # systemd's has our placeholder in it
    try:
        group = cgroup.create(
            path, limits, rules=container.device_rules(config), required=not context.rootless, alone=alone
        )
    except OSError as exc:
        if context.rootless and exc.errno in {1, 13, 30}:
            context.log.warning(f"running without a cgroup: {exc.strerror}")
            return "", cgroup.Group([], [])
        raise
    if not group.folders:
        context.log.warning(f"running without a cgroup: {cgroup.place().reason}")
        return "", group
    return path, group


def descriptors(context: Context, process: dict[str, Any]) -> list[int]:
    """Those to pass on: `--preserve-fds`, and what socket activation gave us (sd_listen_fds(3)).

    Ours may have taken a number that the caller left free; they are told apart by being close-on-exec.
    """
    count = context.given.preserve_fds
    listening = os.environ.get("LISTEN_FDS", "")
    if listening.isdecimal() and int(listening) > 0:
        count += int(listening)
        process["env"] = [*(process.get("env") or []), f"LISTEN_FDS={listening}", "LISTEN_PID=1"]
    wanted = range(3, 3 + count)
    found = [number for number in wanted if _inherited(number)]
    if len(found) < len(wanted):
        missing = next(number for number in wanted if number not in found)
        context.log.warning(f"of the {count} descriptors to be passed on, {len(found)} are open: {missing} is not")
    return found


def _inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def _start(context: Context, found: store.Container) -> None:
    status = found.status()
    if status == store.STOPPED:
        raise errors.ContainerError("cannot start a container that has stopped")
    if status != store.CREATED:
        raise errors.ContainerError("cannot start an already running container")
    config = found.config()
    if not config["process"].get("args"):
        raise errors.ContainerError("cannot start a container without a process in its config")
    _let_go(found)
    try:
        hooks.run(config, "poststart", found.oci_state(store.RUNNING))
    except errors.ContainerError:
        control.destroy(context, found, config)
        raise


def _let_go(found: store.Container) -> None:
    with sockets.connect(found.gate, kind=socket.SOCK_SEQPACKET) as wire:
        handshake.say(wire, handshake.Word.START, state=found.oci_state(store.CREATED))
        try:
            message = handshake.hear(wire)
            if message is not None and message.word is handshake.Word.LISTENER:
                _tell_agent(message, found.record.pid)
                message = handshake.hear(wire)
        except ConnectionResetError as exc:
            raise errors.ContainerError("the container's first process is gone") from exc
    if message is not None:
        raise handshake.failure(message.values)
    os.unlink(found.gate)


def _tell_agent(message: handshake.Message, pid: int) -> None:
    try:
        seccomp.deliver(message, pid=pid)
    except errors.ContainerError:
        # It is on its way already, and nobody would ever answer what it asks.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise


def _now() -> str:
    nanoseconds = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9)) + f".{nanoseconds % 10**9:09}Z"


def _owner() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
