"""Another process in a running container. From the monitor (health checks) and from a command (`exec`) alike.

    caller                 child A                           child B, the process
      | fork ------------->|                                    |
      |                    | joins cgroups and namespaces       |
      |                    | fork (into the pid namespace) ---> | waits for A's end
      | <------ PID n -----+ _exit                              |
      | GO ---------------------------------------------------> |  or B's word might come before A's
      | <-------------------------------- READY [+ pty master] -+
      |                                                         | drops its rights, execs
      | <-------------------------------- end of file, or FAILED

The caller has to be a child subreaper, so that B becomes its own child when A has gone. A command outside the user
namespace of a rootless engine joins that one first, which makes it root in there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from devenv import errors
from devenv.linux import namespace
from devenv.linux import process as linux_process
from devenv.runtime import bundle, cgroup, handshake, init, labels, process, rootfs, schedule, seccomp, state

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
    folder: str,
    config: Mapping[str, Any],
    described: dict[str, Any],
    *,
    stdio: tuple[int, int, int],
    tty: bool = False,
) -> Executed:
    """``folder`` is the container's, ``config`` its bundle; ``described`` an OCI process object of ``joining``.

    Raises ``ContainerError``; ``handshake.CommandError`` for a command that can't be run, with the exit code that a
    shell would give it.
    """
    target = state.load(folder)
    if target is None or target.pid is None or target.status not in {"running", "paused"}:
        raise errors.ContainerError("the container is not running", hint="start it with `devenv start`")
    if target.status == "paused":
        raise errors.ContainerError("the container is paused", hint="let it go on with `devenv unpause`")
    if bundle.RUNTIME in (config.get("annotations") or {}):
        from devenv.runtime import foreign, programs  # of no use to all others

        where = foreign.place(dict(config), folder)
        if not programs.is_joinable(where.program):
            return Executed(*foreign.execute(where, described, stdio=stdio, tty=tty))
    seal = seccomp.prepare(config, container_id=target.id, bundle=folder, pid=target.pid)
    return enter(target.pid, described, seal, stdio=stdio, tty=tty, manner=Manner())


def enter(
    container: int,
    described: dict[str, Any],
    seal: seccomp.Seal | None,
    *,
    stdio: tuple[int, int, int],
    tty: bool,
    manner: Manner,
) -> Executed:
    """``container`` is the pid of its first process, ``seal`` the filter of the container's system calls.

    ``described``'s ``user`` may be a string, ``"name:group"``, if it isn't ``exact``.
    """
    linux_process.prctl(linux_process.PR_SET_CHILD_SUBREAPER, 1)
    folders = cgroup.of_process(container)
    if manner.cgroup:
        folders = cgroup.beneath(folders, manner.cgroup)
    with contextlib.ExitStack() as kept:
        with contextlib.ExitStack() as passed:
            target = _open(container, passed)
            ours, theirs = handshake.pair()
            kept.enter_context(ours)
            passed.enter_context(theirs)
            first = os.fork()
            if first == 0:
                try:
                    _join(target, folders, described, theirs, seal, stdio=stdio, tty=tty, manner=manner)
                finally:
                    os._exit(1)
        return _await(ours, first)


class _Target(NamedTuple):
    """What is held open of the container while it is entered."""

    spaces: list[tuple[int, int]]
    root: int

    def descriptors(self) -> list[int]:
        return [*(descriptor for descriptor, _ in self.spaces), self.root]


def _open(pid: int, passed: contextlib.ExitStack) -> _Target:
    """``passed`` closes what is opened."""
    try:
        spaces = _open_namespaces(pid, passed)
        # A container without a mount namespace has nothing but another root.
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise errors.ContainerError("the container has just ended") from exc
    passed.callback(os.close, root)
    return _Target(spaces, root)


def _await(wire: socket.socket, first: int) -> Executed:
    try:
        pid = int(handshake.expect(wire, handshake.Word.PID).values["pid"])
    finally:
        os.waitpid(first, 0)
    pidfd = os.pidfd_open(pid)
    master = None
    try:
        handshake.say(wire, handshake.Word.GO)
        message = handshake.expect(wire, handshake.Word.READY)
        master = message.fds[0] if message.fds else None
        failed = handshake.hear(wire)
        if failed is not None and failed.word is handshake.Word.LISTENER:
            seccomp.deliver(failed, pid=pid)
            failed = handshake.hear(wire)
        if failed is not None:
            raise handshake.failure(failed.values)
    except BaseException as exc:
        os.close(pidfd)
        if master is not None:
            os.close(master)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        if isinstance(exc, ConnectionError):
            # The container sees it as soon as it is in its pid namespace.
            raise errors.ContainerError("the process was killed on its way into the container") from exc
        raise
    return Executed(pid, pidfd, master)


def _open_namespaces(pid: int, passed: contextlib.ExitStack) -> list[tuple[int, int]]:
    """Those that are not ours already: joining one's own user namespace is an error (setns(2))."""
    found = []
    for name, flag in _NAMESPACES:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if name == "time" and os.path.exists(f"/proc/{pid}"):
                continue  # before Linux 5.6
            raise
        passed.callback(os.close, descriptor)
        if os.fstat(descriptor).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
            found.append((descriptor, flag))
    return found


def _join(
    target: _Target,
    folders: list[str],
    described: dict[str, Any],
    wire: socket.socket,
    seal: seccomp.Seal | None,
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
        if folders:
            schedule.reset_affinity()
        schedule.set_affinity(described, "final")
        _join_namespaces(target.spaces)
        if not os.path.samestat(os.stat("/"), os.fstat(target.root)):
            os.fchdir(target.root)
            os.chroot(".")
        os.close(target.root)
        told, tell = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid:
            handshake.say(wire, handshake.Word.PID, pid=pid)
            os._exit(0)
        # Not a word before the caller has heard our pid: the end of A is the end of this pipe.
        os.close(tell)
        os.read(told, 1)
        os.close(told)
        _become(described, wire, seal, tty=tty, manner=manner)
    except BaseException as exc:  # noqa: BLE001  nothing may unwind into the caller's code
        init.give_up(wire, exc)
    os._exit(1)


def _join_namespaces(spaces: list[tuple[int, int]]) -> None:
    """Some belong to the container's user namespace and some may belong to ours: each with the rights that suffice.

    The mount namespace last of all, for with it the host's files go.
    """
    late = []
    for descriptor, flag in spaces:
        if flag in {namespace.CLONE_NEWUSER, namespace.CLONE_NEWNS} or not _joined(descriptor, flag):
            late.append((descriptor, flag))
    for descriptor, flag in late:
        namespace.setns(descriptor, flag)
        if flag == namespace.CLONE_NEWUSER:
            init.become_root()
        os.close(descriptor)


def _joined(descriptor: int, flag: int) -> bool:
    try:
        namespace.setns(descriptor, flag)
    except PermissionError:
        return False
    os.close(descriptor)
    return True


@contextlib.contextmanager
def _lenient(*, strict: bool) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        # A user's session may not move processes across to the engine's delegated subtree; and where the container has
        # no cgroup of its own because they can't be written to, neither is there anything to join.
        if strict and exc.errno != errno.EROFS:
            raise
        if exc.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise


def _become(
    described: dict[str, Any], wire: socket.socket, seal: seccomp.Seal | None, *, tty: bool, manner: Manner
) -> NoReturn:
    message = handshake.hear(wire)
    if message is None or message.word is not handshake.Word.GO:
        os._exit(1)
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    given = described.get("user")
    named, groups = given if isinstance(given, str) else "", described.get("groups") or ()
    who = init.identify(root, described, named=named, groups=groups, exact=manner.exact)
    os.setsid()
    master = -1
    if tty:
        with rootfs.doing("making a terminal in the container"):
            master = init.take_terminal(root, who, described.get("consoleSize") or {})
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
    if described.get("adopts"):
        # Stays over execve(2): orphans of the process' own become its children, not those of the container's first.
        linux_process.prctl(linux_process.PR_SET_CHILD_SUBREAPER, 1)
    labels.label_next_program(described)
    process.become(who, described, functools.partial(seccomp.load, seal, wire), exact=manner.exact)
    try:
        process.execute(list(described["args"]), env)
    except OSError as exc:
        handshake.say(wire, handshake.Word.FAILED, **process.refusal(described["args"], env, exc))
    os._exit(127)
