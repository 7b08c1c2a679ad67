"""`exec`: another process in a container that is there."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.oci import checks, console, foreground, lifecycle, store
from devenv.runtime import container, exec, seccomp

if TYPE_CHECKING:
    import argparse

    from devenv.oci.main import Context


def execute(context: Context) -> int:
    given = context.given
    # Not locked: an exec may last, and neither changes the container nor minds if it goes.
    found = context.store.get(given.id)
    config = found.config()
    process = checks.process(_process(given, config), config["linux"], warn=context.log.warning)
    tty = bool(process.get("terminal"))
    keep = lifecycle.descriptors(context, process)
    console.check(tty=tty, detached=given.detach, socket_path=given.console_socket)
    status = found.status()
    if status == store.STOPPED:
        raise errors.ContainerError("cannot exec in a stopped container")
    if status == store.PAUSED and not given.ignore_paused:
        raise errors.ContainerError("cannot exec in a paused container (use --ignore-paused to override)")
    manner = exec.Manner(exact=True, keep=tuple(keep), cgroup=_cgroup(given.cgroup), linux=config["linux"])
    record = found.record
    seal = seccomp.prepare(config, container_id=record.id, bundle=record.bundle, pid=record.pid)
    with container.translated():
        done = exec.enter(record.pid, process, seal, stdio=(0, 1, 2), tty=tty, manner=manner)
    master = done.tty_master_fd
    if given.console_socket:
        assert master is not None
        console.send(given.console_socket, master)
        master = None
    if given.pidfd_socket:
        console.send_pidfd(given.pidfd_socket, done.pid)
    if given.pid_file:
        console.write_pid(given.pid_file, done.pid)
    return 0 if given.detach else foreground.Forwarder(done.pid, master).wait()


def _cgroup(given: list[str]) -> str:
    """``PATH`` or, as runc has it for cgroup v1, ``CONTROLLER,…:PATH``; always beneath the container's own."""
    path = given[-1].rpartition(":")[2].strip("/") if given else ""
    if ".." in path.split("/"):
        raise errors.UsageError(f"bad sub cgroup path: `{given[-1]}`: `..` components are not allowed")
    return path


def _process(given: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    if given.process:
        try:
            with open(given.process, "rb") as file:
                found: dict[str, Any] = json.load(file)
                return found
        except (ValueError, RecursionError) as exc:
            raise errors.ContainerError(f"{given.process}: {exc}") from exc
    if not given.args:
        raise errors.UsageError("exec needs a command, or --process")
    process: dict[str, Any] = copy.deepcopy(config["process"])
    process["args"] = given.args[1:] if given.args[0] == "--" else given.args
    process["terminal"] = given.tty
    process.pop("consoleSize", None)
    process.pop("oomScoreAdj", None)
    process["cwd"] = given.cwd or process.get("cwd") or "/"
    process["env"] = [*(process.get("env") or []), *given.env]
    if given.user:
        process["user"] = _user(given.user, process.get("user") or {})
    if given.additional_gids:
        process["user"] = dict(process.get("user") or {"uid": 0, "gid": 0})
        process["user"]["additionalGids"] = [*(process["user"].get("additionalGids") or []), *given.additional_gids]
    if given.cap:
        sets = process.setdefault("capabilities", {})
        # Where capabilities are inherited at all, others than root are to have them, too.
        ambient = ("ambient",) if sets.get("inheritable") else ()
        for name in ("bounding", "effective", "permitted", *ambient):
            sets[name] = [*(sets.get(name) or []), *given.cap]
    if given.no_new_privs:
        process["noNewPrivileges"] = True
    if given.apparmor:
        process["apparmorProfile"] = given.apparmor
    if given.process_label:
        process["selinuxLabel"] = given.process_label
    return process


def _user(text: str, before: dict[str, Any]) -> dict[str, Any]:
    """Numbers only: names are for whoever calls us to look up."""
    uid, colon, gid = text.partition(":")
    if not uid.isdecimal() or not uid.isascii() or (colon and not (gid.isdecimal() and gid.isascii())):
        raise errors.UsageError(f"`{text}` is no user", hint="UID or UID:GID, in numbers")
    return {**before, "uid": int(uid), "gid": int(gid) if gid else before.get("gid") or 0}
