"""Another process in a running container. From the monitor (health checks) and from a command (`exec`) alike.

    caller                 child A                           child B, the process
      | fork ------------->|                                    |
      |                    | joins cgroups and namespaces       |
      |                    | fork (into the pid namespace) ---> |
      | <------ PID n -----+ _exit                              |
      | <-------------------------------- READY [+ pty master] -+
      |                                                         | drops its rights, execs
      | <-------------------------------- end of file, or FAILED

The caller has to be a child subreaper, so that B becomes its own child when A has gone. A command outside the user
namespace of a rootless engine joins that one first, which makes it root in there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import termios
from typing import Any, NamedTuple, NoReturn

from devenv import errors
from devenv.linux import namespace, openat2
from devenv.linux import process as linux_process
from devenv.runtime import cgroup, handshake, init, process, rootfs, state, user

# In this order: the first gives the right to join the others, the last takes the host's files away.
_NAMESPACES = (
    ("user", namespace.CLONE_NEWUSER),
    ("cgroup", namespace.CLONE_NEWCGROUP),
    ("ipc", namespace.CLONE_NEWIPC),
    ("uts", namespace.CLONE_NEWUTS),
    ("net", namespace.CLONE_NEWNET),
    ("pid", namespace.CLONE_NEWPID),
    ("mnt", namespace.CLONE_NEWNS),
)


class Executed(NamedTuple):
    pid: int  # a child of the caller's
    pidfd: int
    tty_master_fd: int | None


def exec_process(
    target: state.State | None, described: dict[str, Any], *, stdio: tuple[int, int, int], tty: bool = False
) -> Executed:
    """``described`` is an OCI process object; its ``user`` may be a string, ``"name:group"``.

    Raises ``ContainerError``; ``handshake.CommandError`` for a command that can't be run, with the exit code that a
    shell would give it.
    """
    if target is None or target.pid is None or target.status not in {"running", "paused"}:
        raise errors.ContainerError("the container is not running", hint="start it with `devenv start`")
    if target.status == "paused":
        raise errors.ContainerError("the container is paused", hint="let it go on with `devenv unpause`")
    linux_process.prctl(linux_process.PR_SET_CHILD_SUBREAPER, 1)
    folders = cgroup.of_process(target.pid)
    spaces = _open_namespaces(target.pid)
    ours, theirs = handshake.pair()
    try:
        first = os.fork()
        if first == 0:
            try:
                _join(spaces, folders, described, theirs, stdio=stdio, tty=tty)
            finally:
                os._exit(1)
    finally:
        theirs.close()
        for descriptor, _ in spaces:
            os.close(descriptor)
    with ours:
        return _await(ours, first)


def _await(wire: socket.socket, first: int) -> Executed:
    try:
        pid = int(handshake.expect(wire, handshake.Word.PID).values["pid"])
    finally:
        os.waitpid(first, 0)
    pidfd = os.pidfd_open(pid)
    master = None
    try:
        message = handshake.expect(wire, handshake.Word.READY)
        master = message.fds[0] if message.fds else None
        failed = handshake.hear(wire)
        if failed is not None:
            raise handshake.failure(failed.values)
    except BaseException:
        os.close(pidfd)
        if master is not None:
            os.close(master)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise
    return Executed(pid, pidfd, master)


def _open_namespaces(pid: int) -> list[tuple[int, int]]:
    """Those that are not ours already: joining one's own user namespace is an error (setns(2))."""
    found = []
    for name, flag in _NAMESPACES:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as exc:
            raise errors.ContainerError("the container has just ended") from exc
        if os.fstat(descriptor).st_ino == os.stat(f"/proc/self/ns/{name}").st_ino:
            os.close(descriptor)
        else:
            found.append((descriptor, flag))
    return found


def _join(
    spaces: list[tuple[int, int]],
    folders: list[str],
    described: dict[str, Any],
    wire: socket.socket,
    *,
    stdio: tuple[int, int, int],
    tty: bool,
) -> NoReturn:
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        keep = [wire.fileno(), *(descriptor for descriptor, _ in spaces)]
        init.take_descriptors(stdio, keep)
        linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
        os.setsid()
        with contextlib.suppress(OSError):
            linux_process.join_new_session_keyring()
        with contextlib.suppress(PermissionError):
            # A user's session may not move processes across to the engine's delegated subtree.
            cgroup.join(folders)
        for descriptor, flag in spaces:
            namespace.setns(descriptor, flag)
            os.close(descriptor)
        pid = os.fork()
        if pid:
            handshake.say(wire, handshake.Word.PID, pid=pid)
            os._exit(0)
        _become(described, wire, tty=tty)
    except BaseException as exc:  # noqa: BLE001  nothing may unwind into the caller's code
        init.give_up(wire, exc)
    os._exit(1)


def _become(described: dict[str, Any], wire: socket.socket, *, tty: bool) -> NoReturn:
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    given = described.get("user")
    who = user.resolve(root, given if isinstance(given, str) else init.numeric(described))
    master = _terminal(root, who) if tty else -1
    if not tty:
        os.setsid()
    cwd = described.get("cwd") or "/"
    with rootfs.doing(f"entering the working directory `{cwd}`"):
        process.enter_cwd(cwd, who)
    process.set_rlimits(described.get("rlimits") or [], exact=False)
    env = process.environment(described, who)
    handshake.say(wire, handshake.Word.READY, fds=(master,) if master >= 0 else ())
    if master >= 0:
        os.close(master)
    process.become(who, described, exact=False)
    try:
        process.execute(list(described["args"]), env)
    except OSError as exc:
        handshake.say(wire, handshake.Word.FAILED, command=described["args"][0], errno=exc.errno or 5)
    os._exit(127)


def _terminal(root: int, who: user.User) -> int:
    """A pseudo-terminal from the container's own devpts, as its controlling terminal."""
    with rootfs.doing("making a terminal in the container"):
        master = openat2.in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, init.TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, init.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        os.fchown(slave, who.uid, -1)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        if slave > 2:
            os.close(slave)
    return master
