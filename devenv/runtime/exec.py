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
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from devenv import errors
from devenv.linux import namespace, openat2
from devenv.linux import process as linux_process
from devenv.runtime import cgroup, handshake, init, labels, process, rootfs, schedule, state, user

# In this order: the first gives the right to join the others, the last takes the host's files away.
_NAMESPACES = (
    ("user", namespace.CLONE_NEWUSER),
    ("cgroup", namespace.CLONE_NEWCGROUP),
    ("ipc", namespace.CLONE_NEWIPC),
    ("uts", namespace.CLONE_NEWUTS),
    ("net", namespace.CLONE_NEWNET),
    ("time", namespace.CLONE_NEWTIME),
    ("pid", namespace.CLONE_NEWPID),
    ("mnt", namespace.CLONE_NEWNS),
)


class Executed(NamedTuple):
    pid: int  # a child of the caller's
    pidfd: int
    tty_master_fd: int | None


class Manner(NamedTuple):
    """How the specification's `exec` differs from devenv's own."""

    exact: bool = False  # the process object as it stands: numeric user, the sets of capabilities, strict limits
    keep: tuple[int, ...] = ()  # descriptors that the process inherits beside the standard ones
    cgroup: str = ""  # beneath the container's own
    linux: Mapping[str, Any] = MappingProxyType({})  # of the container's config
    keyring: bool = True


def exec_process(
    target: state.State | None,
    described: dict[str, Any],
    *,
    stdio: tuple[int, int, int],
    tty: bool = False,
    manner: Manner = Manner(),  # noqa: B008  it can't change
) -> Executed:
    """``described`` is an OCI process object; its ``user`` may be a string, ``"name:group"``, if it isn't ``exact``.

    Raises ``ContainerError``; ``handshake.CommandError`` for a command that can't be run, with the exit code that a
    shell would give it.
    """
    if target is None or target.pid is None or target.status not in {"running", "paused"}:
        raise errors.ContainerError("the container is not running", hint="start it with `devenv start`")
    if target.status == "paused":
        raise errors.ContainerError("the container is paused", hint="let it go on with `devenv unpause`")
    return enter(target.pid, described, stdio=stdio, tty=tty, manner=manner)


def enter(
    container: int, described: dict[str, Any], *, stdio: tuple[int, int, int], tty: bool, manner: Manner
) -> Executed:
    """``container`` is the pid of its first process."""
    linux_process.prctl(linux_process.PR_SET_CHILD_SUBREAPER, 1)
    with _Target(container) as target:
        folders = cgroup.of_process(container)
        if manner.cgroup:
            folders = [os.path.normpath(f"{folder}/{manner.cgroup}") for folder in folders]
            for folder in folders:
                os.makedirs(folder, mode=0o755, exist_ok=True)
        ours, theirs = handshake.pair()
        try:
            first = os.fork()
            if first == 0:
                try:
                    _join(target, folders, described, theirs, stdio=stdio, tty=tty, manner=manner)
                finally:
                    os._exit(1)
        finally:
            theirs.close()
    with ours:
        return _await(ours, first)


class _Target:
    """What is held open of the container while it is entered."""

    def __init__(self, pid: int) -> None:
        self.spaces: list[tuple[int, int]] = []
        self.root = -1
        try:
            self.spaces = _open_namespaces(pid)
            # A container without a mount namespace has nothing but another root.
            self.root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as exc:
            self.__exit__()
            raise errors.ContainerError("the container has just ended") from exc

    def __enter__(self) -> _Target:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.descriptors():
            os.close(descriptor)

    def descriptors(self) -> list[int]:
        return [*(descriptor for descriptor, _ in self.spaces), *([self.root] if self.root >= 0 else [])]


def _await(wire: socket.socket, first: int) -> Executed:
    try:
        # A and B speak on one wire, and B may be the faster one.
        said = [handshake.expect(wire, handshake.Word.PID, handshake.Word.READY)]
        if said[0].word is handshake.Word.READY:
            said.append(handshake.expect(wire, handshake.Word.PID))
        pid = int(said[-1].values["pid"])
    finally:
        os.waitpid(first, 0)
    pidfd = os.pidfd_open(pid)
    master = None
    try:
        if len(said) == 1:
            said.append(handshake.expect(wire, handshake.Word.READY))
        ready = next(message for message in said if message.word is handshake.Word.READY)
        master = ready.fds[0] if ready.fds else None
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
        except FileNotFoundError:
            if name == "time" and os.path.exists(f"/proc/{pid}"):
                continue  # before Linux 5.6
            raise
        if os.fstat(descriptor).st_ino == os.stat(f"/proc/self/ns/{name}").st_ino:
            os.close(descriptor)
        else:
            found.append((descriptor, flag))
    return found


def _join(
    target: _Target,
    folders: list[str],
    described: dict[str, Any],
    wire: socket.socket,
    *,
    stdio: tuple[int, int, int],
    tty: bool,
    manner: Manner,
) -> NoReturn:
    try:
        init.default_signals()
        init.take_descriptors(stdio, [wire.fileno(), *target.descriptors(), *manner.keep])
        linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
        os.setsid()
        if manner.keyring:
            init.new_keyring()
        score = described.get("oomScoreAdj")
        if score is not None:
            init.set_oom_score(score, exact=manner.exact)
        schedule.set_affinity(described, "initial")
        with rootfs.doing("joining the container's cgroup"), _lenient(strict=manner.exact and os.geteuid() == 0):
            cgroup.join(folders)
        schedule.set_affinity(described, "final")
        for descriptor, flag in target.spaces:
            namespace.setns(descriptor, flag)
            if flag == namespace.CLONE_NEWUSER:
                init.become_root()
            os.close(descriptor)
        if not os.path.samestat(os.stat("/"), os.fstat(target.root)):
            os.fchdir(target.root)
            os.chroot(".")
        os.close(target.root)
        pid = os.fork()
        if pid:
            handshake.say(wire, handshake.Word.PID, pid=pid)
            os._exit(0)
        _become(described, wire, tty=tty, manner=manner)
    except BaseException as exc:  # noqa: BLE001  nothing may unwind into the caller's code
        init.give_up(wire, exc)
    os._exit(1)


@contextlib.contextmanager
def _lenient(*, strict: bool) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        # A user's session may not move processes across to the engine's delegated subtree.
        if strict:
            raise


def _become(described: dict[str, Any], wire: socket.socket, *, tty: bool, manner: Manner) -> NoReturn:
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    who = _identify(root, described, exact=manner.exact)
    master = _terminal(root, who, described.get("consoleSize") or {}) if tty else -1
    if not tty:
        os.setsid()
    cwd = described.get("cwd") or "/"
    with rootfs.doing(f"chdir to the working directory `{cwd}`"):
        process.enter_cwd(cwd, None if manner.exact else who)
    process.set_rlimits(described.get("rlimits") or [], exact=manner.exact)
    with rootfs.doing("setting how the process is scheduled"):
        schedule.apply(described, dict(manner.linux))
    env = process.environment(described, who)
    handshake.say(wire, handshake.Word.READY, fds=(master,) if master >= 0 else ())
    if master >= 0:
        os.close(master)
    labels.label_next_program(described)
    process.become(who, described, exact=manner.exact)
    try:
        process.execute(list(described["args"]), env)
    except OSError as exc:
        handshake.say(wire, handshake.Word.FAILED, command=described["args"][0], errno=exc.errno or 5)
    os._exit(127)


def _identify(root: int, described: dict[str, Any], *, exact: bool) -> user.User:
    given = described.get("user")
    if exact:
        return user.exactly(root, given or {})
    return user.resolve(root, given if isinstance(given, str) else init.numeric(described))


def _terminal(root: int, who: user.User, size: dict[str, int]) -> int:
    """A pseudo-terminal from the container's own devpts, as its controlling terminal."""
    with rootfs.doing("making a terminal in the container"):
        master = openat2.in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, init.TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, init.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        os.fchown(slave, who.uid, -1)
        init.resize(slave, size)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(slave, number)
        if slave > 2:
            os.close(slave)
    return master
