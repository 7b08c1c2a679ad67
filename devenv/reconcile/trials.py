"""Trying what a kernel gives, each in a forked child that ends right after, so that nothing of it remains.

A trial returns None when it worked, else the ``OSError`` with the step that failed in ``filename``. Reading a version
or a setting tells less: distributions backport, seccomp and LSMs forbid, containers hide.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable

from devenv.linux import mount, namespace, openat2, process
from devenv.linux import seccomp as linux_seccomp
from devenv.runtime import idmap, staging, subids

_TIMEOUT = 5.0
_ALL = (
    namespace.CLONE_NEWNS
    | namespace.CLONE_NEWPID
    | namespace.CLONE_NEWNET
    | namespace.CLONE_NEWIPC
    | namespace.CLONE_NEWUTS
    | namespace.CLONE_NEWCGROUP
)


def attempt(trial: Callable[[], None]) -> OSError | None:
    """Run ``trial`` in a child of its own. Whatever it raises that is no OSError counts as EINVAL."""
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        answer: list[object] = [0, "", ""]
        try:
            trial()
        except OSError as exc:
            answer = [exc.errno or 22, exc.strerror or str(exc), os.fsdecode(exc.filename or b"")]
        except BaseException as exc:  # noqa: BLE001  a forked child must never return into the command
            answer = [22, str(exc), type(exc).__name__]
        with contextlib.suppress(OSError):
            os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], _TIMEOUT)
        data = os.read(read, 4096) if ready else b""
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not data:
        return OSError(110, "no answer", "trial")
    number, message, name = json.loads(data)
    return OSError(number, message, name) if number else None


def _step(name: str, function: Callable[[], object]) -> None:
    """Raises the function's OSError under the step's own name."""
    try:
        function()
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, name) from exc


def enter_user_namespace() -> None:
    """As an ordinary user: a user namespace in which the caller is root, mapped by its own hand."""
    uid, gid = os.geteuid(), os.getegid()
    _step("unshare(CLONE_NEWUSER)", lambda: namespace.unshare(namespace.CLONE_NEWUSER))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        _step(f"writing {name}", lambda name=name, text=text: _write(f"/proc/self/{name}", text))  # type: ignore[misc]


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def user_namespace() -> None:
    """It can be made, and gives the powers that it should: a restricting LSM lets it be made and then refuses."""
    enter_user_namespace()
    _step("unshare of the other namespaces", lambda: namespace.unshare(_ALL))
    _step("mounting a tmpfs", lambda: mount.mount("tmpfs", "/tmp", "tmpfs", 0))


def proc() -> None:
    """A /proc of a new pid namespace's own. A user namespace may not see more of it than it sees already."""
    enter_user_namespace()
    namespace.unshare(namespace.CLONE_NEWNS | namespace.CLONE_NEWPID)

    def mounted() -> None:
        mount.mount("none", "/", "none", mount.MS_REC | mount.MS_PRIVATE)
        _step("mounting proc", lambda: mount.mount("proc", "/proc", "proc", 0))

    problem = attempt(mounted)
    if problem is not None:
        raise problem


def all_namespaces() -> None:
    """As root: those that a container has."""
    _step("unshare", lambda: namespace.unshare(_ALL))
    _step("making / private", lambda: mount.mount("none", "/", "none", mount.MS_REC | mount.MS_PRIVATE))


def overlay(folder: str, *, rootless: bool) -> None:
    """An overlay with its upper folder on the filesystem of ``folder``, a fresh folder that the caller removes."""
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{folder}/{name}")
    if rootless:
        enter_user_namespace()
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount("none", "/", "none", mount.MS_REC | mount.MS_PRIVATE)
    options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    if rootless:
        options += ",userxattr"
    _step("mounting overlay", lambda: mount.mount("overlay", f"{folder}/merged", "overlay", 0, options))
    _step("writing to the overlay", lambda: _write(f"{folder}/merged/file", "x"))


def idmapped(folder: str) -> None:
    """A layer shown with the ids of a user namespace, as root: with an overlay over it, which came last (5.19)."""
    for name in ("lower", "upper", "work", "stage"):
        os.mkdir(f"{folder}/{name}")
    mapping = [{"containerID": 0, "hostID": subids.DEFAULT.first, "size": subids.SIZE}]
    space = idmap.user_namespace(mapping, mapping)
    overlays = [
        {
            "target": "/",
            "lower": [f"{folder}/lower"],
            "upper": f"{folder}/upper",
            "work": f"{folder}/work",
        }
    ]
    root = idmap.root(mapping, mapping)
    staging.take(overlays, [], {}, folder=f"{folder}/stage", space=space, root=root)


def nf_tables(*, rootless: bool) -> None:
    """Ask nf_tables for its generation: NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, in a network of its own."""
    if rootless:
        enter_user_namespace()
    namespace.unshare(namespace.CLONE_NEWNET)
    netlink_netfilter = 12
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter) as channel:
        channel.settimeout(2)
        body = struct.pack("=BBH", 0, 0, 0)
        header = struct.pack("=IHHII", 16 + len(body), (10 << 8) | 16, 1, 1, 0)
        channel.send(header + body)
        answer = channel.recv(8192)
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind == 2:  # NLMSG_ERROR
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number:
            raise OSError(number, os.strerror(number), "asking nf_tables")


def id_ranges(uid_range: tuple[int, int], gid_range: tuple[int, int]) -> OSError | None:
    """A user namespace mapped by newuidmap and newgidmap, as rootless containers need it."""
    made_read, made_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            namespace.unshare(namespace.CLONE_NEWUSER)
            os.write(made_write, b"1")
            os.close(go_write)
            os.read(go_read, 1)
        except OSError:
            pass
        os._exit(0)
    os.close(made_write)
    os.close(go_read)
    try:
        if not os.read(made_read, 1):
            return OSError(1, "no user namespace", "unshare")
        maps = (("newuidmap", os.geteuid(), uid_range), ("newgidmap", os.getegid(), gid_range))
        for program, own, (start, count) in maps:
            arguments = [program, str(child), "0", str(own), "1", "1", str(start), str(count)]
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
            if done.returncode != 0:
                return OSError(1, done.stderr.strip() or f"exit code {done.returncode}", program)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return OSError(getattr(exc, "errno", 110) or 110, str(exc), "newuidmap")
    finally:
        os.close(made_read)
        os.close(go_write)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return None


def seccomp() -> None:
    """Load a filter that allows everything."""
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    linux_seccomp.set_mode_filter(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))


def system_calls() -> None:
    """Those that nothing works without and old filters of container engines don't know."""
    how = openat2.RESOLVE_NO_SYMLINKS
    _step("openat2", lambda: os.close(openat2.openat2(-100, "/", os.O_PATH | os.O_CLOEXEC, resolve=how)))
    _step("pidfd_open", lambda: os.close(os.pidfd_open(os.getpid())))
