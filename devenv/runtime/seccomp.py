"""The filter of a container: made ready in the parent, loaded by the process that is to run under it.

Compiling takes one to two milliseconds and is done once for each policy in the life of a process: a monitor's
containers mostly have the same. What is forked has only the one system call left to make.

Where a policy notifies (``SCMP_ACT_NOTIFY``), loading it yields a descriptor. The process hands it to its parent over
the handshake's wire, because only the parent still sees the host's files, and the parent passes it to the agent:

    parent                       process                                  agent at listenerPath
      | START ------------------->| seccomp(2) -> descriptor                 |
      | <-- LISTENER + descriptor-+ execve(2)                                |
      | the container process state + descriptor ---------------------------->| answers from now on
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import seccomp
from devenv.runtime import handshake, seccomp_bpf, seccomp_rules


class Filter(NamedTuple):
    program: bytes
    flags: int
    notifies: bool
    listens: bool  # there is an agent to be told, whether or not it will ever be asked something


class Seal(NamedTuple):
    """A filter and, when it notifies, whom to tell of what."""

    filter: Filter
    listener: Mapping[str, Any] | None


def available() -> str:
    """Why no filter can be loaded on this machine; empty when one can."""
    if seccomp_rules.native() is None:
        return f"devenv has no table of system calls for {os.uname().machine}"
    try:
        seccomp.get_action_avail(seccomp_rules.ERRNO)
    except OSError:
        return "this kernel has no system call filters"
    return ""


def prepare(config: Mapping[str, Any], *, container_id: str, bundle: str, pid: int | None = None) -> Seal | None:
    """None for a container without a filter. ``pid`` is the container's, when this is for one more process in it.

    Raises ``ContainerError`` for a ``linux.seccomp`` that says something impossible.
    """
    described = (config.get("linux") or {}).get("seccomp")
    # As runc: an object that decides nothing is none.
    if not described or not (described.get("defaultAction") or described.get("syscalls")):
        return None
    # Marshalling is the quickest way to something that can be compared; version 2 depends on nothing but the value.
    made = _compile(marshal.dumps(described, 2))
    if not made.listens:
        return Seal(made, None)
    version = config.get("ociVersion")
    state: dict[str, Any] = {
        "ociVersion": version,
        "id": container_id,
        "status": "creating" if pid is None else "running",
        "bundle": bundle,
        "annotations": config.get("annotations") or {},
    }
    if pid is not None:
        state["pid"] = pid
    told: dict[str, Any] = {"ociVersion": version, "fds": ["seccompFd"], "state": state}
    if described.get("listenerMetadata"):
        told["metadata"] = described["listenerMetadata"]
    return Seal(made, {"path": described["listenerPath"], "told": told, "needed": made.notifies})


def warm() -> None:
    """Compile what most containers have, for all that are forked from here."""
    from devenv.runtime import capabilities, seccomp_policy, seccomp_profile

    target = seccomp_profile.target(capabilities.DEFAULT)
    if target is not None:
        described = seccomp_policy.DEFAULT.resolve(target)
        prepare({"linux": {"seccomp": described}}, container_id="", bundle="")


@functools.lru_cache(maxsize=64)
def _compile(marshalled: bytes) -> Filter:
    described = marshal.loads(marshalled)
    architecture = seccomp_rules.native()
    if architecture is None:
        raise errors.ContainerError(f"`linux.seccomp`: {available()}", hint="use `security_opt: seccomp:unconfined`")
    policy = seccomp_rules.read(described, architecture=architecture)
    notifies = seccomp_rules.check_listener(described, policy)
    # There is one thread, and others could not have a listener as well (seccomp(2)): nothing to synchronise.
    flags = seccomp_rules.flags(described) & ~seccomp.SECCOMP_FILTER_FLAG_TSYNC
    listens = bool(described.get("listenerPath"))
    if listens:
        flags |= seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER
    else:
        # It is about notifications, and refused without them.
        flags &= ~seccomp.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    return Filter(seccomp_bpf.compile_policy(policy), flags, notifies, listens)


def load(seal: Seal | None, wire: socket.socket) -> None:
    """In the process that is to be filtered, which has no_new_privs or CAP_SYS_ADMIN in its user namespace."""
    if seal is None:
        return
    try:
        descriptor = seccomp.set_mode_filter(seal.filter.program, seal.filter.flags)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, "loading the system call filter") from exc
    if seal.listener is not None:
        # It is close-on-exec, as the kernel makes it.
        handshake.say(wire, handshake.Word.LISTENER, fds=(descriptor,), **seal.listener)


def deliver(message: handshake.Message, *, pid: int) -> None:
    """In the parent: the container process state goes to the agent, once and on a connection of its own.

    One that would never be asked anything is told, as by crun, and may be missing, as for runc.
    """
    path, told = message.values["path"], message.values["told"]
    told["pid"] = pid
    told["state"].setdefault("pid", pid)
    data = json.dumps(told).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.connect(path)
            sent = socket.send_fds(agent, [data], message.fds)
            # Not for nothing: an agent may have hung up once it had all.
            if sent < len(data):
                agent.sendall(data[sent:])
    except OSError as exc:
        if not message.values["needed"]:
            return
        raise errors.ContainerError(
            f"the seccomp agent at `{path}` can't be told: {exc.strerror}",
            hint="start what listens at `listenerPath` first",
        ) from exc
    finally:
        for descriptor in message.fds:
            with contextlib.suppress(OSError):
                os.close(descriptor)
