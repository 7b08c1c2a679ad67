"""A container's first process, from its fork to its execve(2). ``handshake`` has the figure.

Everything is imported before the fork. Between pivot_root and execve no module is loaded and no file of the container
is opened but by ``user`` and ``process``, which say how.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import signal
import socket
import struct
import sys
import termios
from typing import Any, NoReturn

from devenv import errors
from devenv.linux import mount, namespace, openat2
from devenv.linux import process as linux_process
from devenv.runtime import bundle, cgroup, handshake, process, rootfs, seccomp, user

_FLAGS = {
    "mount": namespace.CLONE_NEWNS,
    "pid": namespace.CLONE_NEWPID,
    "network": namespace.CLONE_NEWNET,
    "ipc": namespace.CLONE_NEWIPC,
    "uts": namespace.CLONE_NEWUTS,
    "cgroup": namespace.CLONE_NEWCGROUP,
    "time": namespace.CLONE_NEWTIME,
}
# TIOCGPTPEER, asm-generic/ioctls.h: open the other end without a path that could be swapped (CVE-2025-52565).
TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431


class Plan:
    """What the child needs to know, put together by the parent."""

    def __init__(self, folder: str, config: dict[str, Any], stdio: tuple[int, int, int], *, cgroups: list[str]) -> None:
        self.folder = folder
        self.config = config
        self.stdio = stdio
        self.cgroups = cgroups
        annotations = config.get("annotations") or {}
        self.layout: dict[str, Any] = json.loads(annotations.get(bundle.ROOTFS) or "{}")
        self.layout["cgroups"] = {os.path.basename(base): path for base, path in _by_hierarchy(cgroups)}
        self.user = annotations.get(bundle.USER) or ""
        self.groups: list[str] = json.loads(annotations.get(bundle.GROUPS) or "[]")
        self.reaps = annotations.get(bundle.INIT) == "true"
        self.process: dict[str, Any] = config["process"]
        self.terminal = bool(self.process.get("terminal"))
        self.shm: str = annotations.get(bundle.SHM) or ""
        self.seal = seccomp.prepare(config, container_id=os.path.basename(folder), bundle=folder)


def _by_hierarchy(cgroups: list[str]) -> list[tuple[str, str]]:
    found = []
    for path in cgroups:
        relative = path.removeprefix(f"{cgroup.ROOT}/").split("/", 1)
        found.append((relative[0], path))
    return found


def child(plan: Plan, wire: socket.socket) -> NoReturn:
    """Child A: into the cgroups and namespaces, and fork B."""
    try:
        # What is ignored stays ignored over an execve. Python ignores SIGPIPE: `yes | head` would never end.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        take_descriptors(plan.stdio, [wire.fileno()])
        # Whoever shares a namespace with us from now on can neither trace us nor look at our descriptors.
        linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
        os.setsid()
        try:
            linux_process.join_new_session_keyring()
        except OSError:
            pass  # keyrings may be compiled out, or used up; the container can't reach the keyring anyway
        with rootfs.doing("joining the container's cgroup"):
            cgroup.join(plan.cgroups)
        shm = _clone_shm(plan.shm) if plan.shm else -1
        flags = 0
        for each in plan.config["linux"]["namespaces"]:
            if each.get("path"):
                with rootfs.doing(f"joining the {each['type']} namespace `{each['path']}`"):
                    descriptor = os.open(each["path"], os.O_RDONLY | os.O_CLOEXEC)
                    namespace.setns(descriptor, _FLAGS[each["type"]])
                    os.close(descriptor)
            else:
                flags |= _FLAGS.get(each["type"], 0)
        with rootfs.doing("making the container's namespaces"):
            namespace.unshare(flags)
        pid = os.fork()
        if pid:
            handshake.say(wire, handshake.Word.PID, pid=pid)
            os._exit(0)
        _init(plan, wire, shm)
    except BaseException as exc:  # noqa: BLE001  nothing may unwind into the monitor's code
        give_up(wire, exc)
    os._exit(1)


def _clone_shm(path: str) -> int:
    """A copy of the mount on /dev/shm in another container's mount namespace, by a child that goes there.

    open_tree(2) copies only what is in one's own; and from there the way back is barred to a user namespace.
    """
    ours, theirs = handshake.pair()
    with rootfs.doing(f"sharing the /dev/shm of `{path}`"), ours:
        pid = os.fork()
        if pid == 0:
            try:
                namespace.setns(os.open(path, os.O_RDONLY | os.O_CLOEXEC), namespace.CLONE_NEWNS)
                tree = mount.open_tree(mount.AT_FDCWD, "/dev/shm", mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
                handshake.say(theirs, handshake.Word.READY, fds=(tree,))
            except BaseException as exc:  # noqa: BLE001  nothing may unwind into the parent's code
                give_up(theirs, exc)
            os._exit(0)
        theirs.close()
        try:
            return handshake.expect(ours, handshake.Word.READY).fds[0]
        finally:
            os.waitpid(pid, 0)


def give_up(wire: socket.socket, exc: BaseException) -> NoReturn:
    try:
        handshake.confess(wire, exc)
    finally:
        os._exit(1)


def take_descriptors(stdio: tuple[int, int, int], keep: list[int]) -> None:
    """0, 1 and 2 are the container's; of all others only ``keep`` stays open."""
    for number, descriptor in enumerate(stdio):
        if descriptor != number:
            os.dup2(descriptor, number)
        else:
            os.set_inheritable(number, True)
    first = 3
    for descriptor in sorted(keep):
        if descriptor > first:
            linux_process.close_range(first, descriptor - 1)
        first = descriptor + 1
    linux_process.close_range(first, 0xFFFFFFFF)


def _init(plan: Plan, wire: socket.socket, shm: int) -> NoReturn:
    """Child B: the container's PID 1."""
    message = handshake.hear(wire)
    if message is None or message.word is not handshake.Word.GO:
        os._exit(1)
    # From now on the monitor is our parent: if it is killed before we were let go, nobody would ever let us.
    linux_process.prctl(linux_process.PR_SET_PDEATHSIG, signal.SIGKILL)
    # A session of its own: only a leader can take a terminal (TIOCSCTTY, EPERM otherwise).
    os.setsid()
    config = plan.config
    with rootfs.doing("keeping the container's mounts to itself"):
        mount.mount("none", "/", "", mount.MS_REC | mount.MS_PRIVATE)
    if config.get("hostname"):
        namespace.sethostname(config["hostname"])
    if config.get("domainname"):
        namespace.setdomainname(config["domainname"])
    builder = rootfs.Builder(config, plan.layout, os.path.join(plan.folder, config["root"]["path"]))
    builder.build()
    if shm >= 0:
        builder.adopt(shm, "/dev/shm")
    for name, value in sorted((config["linux"].get("sysctl") or {}).items()):
        _set_sysctl(builder.root, name, value, wanted=name not in bundle.NETWORK_SYSCTLS)
    builder.protect()
    score = plan.process.get("oomScoreAdj")
    if score is not None:
        _set_oom_score(score)
    rootfs.enter(builder.root, readonly=bool(config["root"].get("readonly")))
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    who = user.resolve(root, plan.user or numeric(plan.process), plan.groups)
    master = _terminal(plan, root, who) if plan.terminal else -1
    if not plan.terminal:
        _own_streams(who)
    with rootfs.doing(f"entering the working directory `{plan.process['cwd']}`"):
        process.enter_cwd(plan.process["cwd"], who)
    process.set_rlimits(plan.process.get("rlimits") or [])
    env = process.environment(plan.process, who)
    handshake.say(wire, handshake.Word.READY, fds=(master,) if master >= 0 else ())
    if master >= 0:
        os.close(master)
    message = handshake.hear(wire)
    if message is None or message.word is not handshake.Word.START:
        os._exit(1)
    # SIGKILL at the monitor's death was for a container that nobody knows of; this one runs.
    linux_process.prctl(linux_process.PR_SET_PDEATHSIG, 0)
    _run(plan, wire, who, env)


def _run(plan: Plan, wire: socket.socket, who: user.User, env: dict[str, str]) -> NoReturn:
    args = list(plan.process["args"])
    if plan.reaps:
        pid = os.fork()
        if pid:
            _reap(pid, wire)
        os.setpgid(0, 0)
    try:
        process.become(who, plan.process, functools.partial(seccomp.load, plan.seal, wire))
    except errors.DevenvError as exc:
        give_up(wire, exc)
    try:
        process.execute(args, env)
    except OSError as exc:
        handshake.say(wire, handshake.Word.FAILED, command=args[0], errno=exc.errno or 5)
    os._exit(127)


def numeric(described: dict[str, Any]) -> str:
    given = described.get("user") or {}
    return f"{given.get('uid', 0)}:{given.get('gid', 0)}" if given.get("uid") or given.get("gid") else ""


def _set_sysctl(root: int, name: str, value: str, *, wanted: bool) -> None:
    path = "proc/sys/" + name.replace(".", "/")
    try:
        descriptor = openat2.in_root(root, path, os.O_WRONLY)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)
    except OSError as exc:
        # Ours are for comfort; the user's are an error.
        if wanted:
            raise rootfs.Failure(exc.errno or 5, exc.strerror, f"setting `{name}` to `{value}`") from exc


def _set_oom_score(score: int) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
    except PermissionError:
        pass  # going below what we have needs CAP_SYS_RESOURCE


def _own_streams(who: user.User) -> None:
    """So that the user can open /dev/stdout again, as servers that log there do."""
    for number in (0, 1, 2):
        try:
            if os.fstat(number).st_uid != who.uid:
                os.fchown(number, who.uid, who.gid)
        except OSError:
            pass  # /dev/null belongs to the host


def _terminal(plan: Plan, root: int, who: user.User) -> int:
    """A pseudo-terminal of the container's own; its master goes to the monitor."""
    with rootfs.doing("making the container's terminal"):
        master = openat2.in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        os.fchown(slave, who.uid, -1)
        size = plan.process.get("consoleSize") or {}
        if size:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size["height"], size["width"], 0, 0))
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        rootfs.console(root, slave)
        if slave > 2:
            os.close(slave)
    return master


def _reap(pid: int, wire: socket.socket) -> NoReturn:
    """PID 1 for a service that asked for `init`: passes signals on, reaps orphans, ends with the service's code."""
    wire.close()
    ours = {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}
    everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    for number in (0, 1, 2):
        os.close(number)
    while True:
        number = signal.sigwait(everything)
        if number not in ours:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(1)
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


# Loaded now: a child must not look for it in the container's filesystem.
assert sys.getfilesystemencoding()
"".encode("utf-8", "surrogateescape")
