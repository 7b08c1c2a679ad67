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
import stat
import struct
import sys
import termios
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from devenv import errors
from devenv.linux import interface, mount, namespace, openat2
from devenv.linux import process as linux_process
from devenv.runtime import (
    bundle,
    cgroup,
    fuseoverlay,
    handshake,
    hooks,
    idmap,
    labels,
    mountoptions,
    process,
    reaper,
    rootfs,
    schedule,
    seccomp,
    sysctl,
    user,
)

_FLAGS = {
    "mount": namespace.CLONE_NEWNS,
    "pid": namespace.CLONE_NEWPID,
    "network": namespace.CLONE_NEWNET,
    "ipc": namespace.CLONE_NEWIPC,
    "uts": namespace.CLONE_NEWUTS,
    "cgroup": namespace.CLONE_NEWCGROUP,
    "user": namespace.CLONE_NEWUSER,
    "time": namespace.CLONE_NEWTIME,
}
# TIOCGPTPEER, asm-generic/ioctls.h: open the other end without a path that could be swapped (CVE-2025-52565).
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


class Plan:
    """What the child needs to know, put together by the parent."""

    def __init__(
        self,
        folder: str,
        config: dict[str, Any],
        stdio: tuple[int, int, int],
        *,
        container_id: str,
        cgroups: list[str],
        exact: bool = False,
        gate: socket.socket | None = None,
        keep: Iterable[int] = (),
        pivot: bool = True,
        keyring: bool = True,
        space: int = -1,
    ) -> None:
        """``space``: a descriptor of the user namespace to be in, if that isn't to be made.

        ``exact``: somebody else's bundle, taken as the specification has it; our annotations mean nothing in it.

        ``keep``: the descriptors that the container's program inherits beside ``stdio``.
        """
        self.folder = folder
        self.config = config
        self.stdio = stdio
        self.cgroups = cgroups
        self.exact = exact
        self.gate = gate
        self.keep = list(keep)
        self.pivot = pivot
        self.keyring = keyring
        self.linux: dict[str, Any] = config.get("linux") or {}
        self.namespaces: dict[str, str] = {
            each["type"]: each.get("path") or "" for each in self.linux.get("namespaces") or []
        }
        annotations = {} if exact else config.get("annotations") or {}
        self.layout: dict[str, Any] = json.loads(annotations.get(bundle.ROOTFS) or "{}")
        self.layout["cgroups"] = dict(_by_hierarchy(cgroups))
        self.user = annotations.get(bundle.USER) or ""
        self.groups: list[str] = json.loads(annotations.get(bundle.GROUPS) or "[]")
        self.reaps = annotations.get(bundle.INIT) == "true"
        self.process: dict[str, Any] = config["process"]
        self.terminal = bool(self.process.get("terminal"))
        self.shm: str = annotations.get(bundle.SHM) or ""
        self.seal = seccomp.prepare(config, container_id=container_id, bundle=folder)
        self.space = space
        self.sources = rootfs.Sources(config, folder, space=space)
        hooked = ("prestart", "createRuntime", "createContainer")
        found = config.get("hooks") or {}
        # Whether the parent has something to do while the namespaces stand and nothing runs in them.
        self.stops_for_hooks = any(found.get(name) for name in hooked) or bool(self.linux.get("netDevices"))


def _by_hierarchy(cgroups: list[str]) -> list[tuple[str, str]]:
    bases = set(cgroup.place().roots.values())
    found = []
    for path in cgroups:
        base = next((each for each in bases if path.startswith(f"{each}/")), os.path.dirname(path))
        found.append((os.path.basename(base), path))
    return found


def child(plan: Plan, wire: socket.socket) -> NoReturn:
    """Child A: into the cgroups and namespaces, and fork B."""
    try:
        default_signals()
        gate = [plan.gate.fileno()] if plan.gate is not None else []
        space = [plan.space] if plan.space >= 0 else []
        take_descriptors(plan.stdio, [wire.fileno(), *gate, *space, *plan.keep])
        os.setsid()
        if plan.keyring:
            new_keyring()
        score = plan.process.get("oomScoreAdj")
        if score is not None:
            set_oom_score(score, exact=plan.exact)
        if plan.space < 0:
            # From where we still are: what it starts is not the container's.
            plan.sources.fused = fuseoverlay.take_over(
                plan.layout.get("overlays") or [],
                place=plan.sources.path,
                in_user_namespace=not namespace.in_initial_user_namespace(),
            )
        plan.sources.mount_disks()
        with rootfs.doing("joining the container's cgroup"):
            cgroup.join(plan.cgroups)
        if plan.cgroups:
            schedule.reset_affinity()
        shm = _clone_shm(plan.shm) if plan.shm else -1
        _enter_namespaces(plan, wire)
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


def default_signals() -> None:
    """What is ignored stays ignored over an execve, as what is blocked stays blocked.

    Python ignores SIGPIPE: `yes | head` would never end.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def new_keyring() -> None:
    try:
        linux_process.join_new_session_keyring()
    except OSError:
        pass  # keyrings may be compiled out, or used up; the container can't reach the keyring anyway


def _enter_namespaces(plan: Plan, wire: socket.socket) -> None:
    joined, flags = [], 0
    for kind, path in plan.namespaces.items():
        if path:
            with rootfs.doing(f"opening the {kind} namespace `{path}`"):
                joined.append((kind, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
        else:
            flags |= _FLAGS[kind]
    if plan.space >= 0:
        flags &= ~namespace.CLONE_NEWUSER
        joined.append(("user", plan.space))
        _as_the_host(plan)
    if "user" in plan.namespaces or any(kind == "mount" for kind, _ in joined) or plan.sources.mapped:
        _prepare_sources(plan)
    late = []
    for kind, descriptor in joined:
        # With the host's rights where they suffice: a namespace may belong to another user namespace than ours will be.
        if kind == "user" or not _joined(descriptor, kind):
            late.append((kind, descriptor))
    if flags & namespace.CLONE_NEWUSER:
        flags &= ~namespace.CLONE_NEWUSER
        _make_user_namespace(wire)
    # Whoever shares a namespace with us from now on can neither trace us nor look at our descriptors.
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    # The user namespace first: it gives the right to join the others.
    for kind, descriptor in sorted(late, key=lambda each: each[0] != "user"):
        with rootfs.doing(f"joining the {kind} namespace `{plan.namespaces[kind] or 'of the project'}`"):
            namespace.setns(descriptor, _FLAGS[kind])
            os.close(descriptor)
        if kind == "user":
            become_root()
    with rootfs.doing("making the container's namespaces"):
        namespace.unshare(flags)
    if plan.linux.get("timeOffsets"):
        with rootfs.doing("setting the offsets of the container's clocks"):
            _set_clocks(plan.linux["timeOffsets"])


def _as_the_host(plan: Plan) -> None:
    """What a user namespace's root can't do for its container any more."""
    process.raise_rlimits(plan.process.get("rlimits") or [])
    root = idmap.root(plan.linux.get("uidMappings") or [], plan.linux.get("gidMappings") or [])
    for number in (0, 1, 2):
        # So that it can be given to the user that the image turns out to have.
        if not stat.S_ISCHR(os.fstat(number).st_mode):
            os.fchown(number, *root)


def _joined(descriptor: int, kind: str) -> bool:
    """Not, if only the user namespace that owns it gives the right to."""
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    try:
        namespace.setns(descriptor, _FLAGS[kind])
    except OSError:
        return False
    os.close(descriptor)
    return True


def _make_user_namespace(wire: socket.socket) -> None:
    with rootfs.doing("making the container's user namespace"):
        namespace.unshare(namespace.CLONE_NEWUSER)
    # The one who maps our ids must be able to write our files in /proc.
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 1)
    handshake.say(wire, handshake.Word.USER)
    message = handshake.hear(wire)
    if message is None or message.word is not handshake.Word.MAPPED:
        os._exit(1)
    become_root()


def _prepare_sources(plan: Plan) -> None:
    # Without the right to take trees (an ordinary user), the same files are as near from inside.
    if os.geteuid() == 0:
        plan.sources.prepare(plan.layout.get("overlays") or [] if plan.space >= 0 else [])


def become_root() -> None:
    """In a user namespace that we have just entered: who we were is nobody in there."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _set_clocks(offsets: dict[str, Any]) -> None:
    """Before the first process is in the new namespace; then they are fixed (time_namespaces(7))."""
    lines = [f"{clock} {each.get('secs') or 0} {each.get('nanosecs') or 0}\n" for clock, each in offsets.items()]
    # The file belongs to us only while we are dumpable; nobody is in our namespaces yet who could profit.
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 1)
    descriptor = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, "".join(lines).encode())
    finally:
        os.close(descriptor)
        linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)


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
    first = reaper.leave_behind(wire) if plan.reaps else None
    # A session of its own: only a leader can take a terminal (TIOCSCTTY, EPERM otherwise).
    os.setsid()
    config = plan.config
    if plan.namespaces.get("network") == "":
        with rootfs.doing("bringing the container's loopback up"):
            interface.up("lo")
    if config.get("hostname"):
        namespace.sethostname(config["hostname"])
    if config.get("domainname"):
        namespace.setdomainname(config["domainname"])
    for name, value in sorted((plan.linux.get("sysctl") or {}).items()):
        _set_sysctl(name, str(value), wanted=plan.exact or name not in bundle.NETWORK_SYSCTLS)
    _enter_root(plan, wire, shm)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    who = identify(root, plan.process, named=plan.user, groups=plan.groups, exact=plan.exact)
    master = -1
    if plan.terminal:
        with rootfs.doing("making the container's terminal"):
            master = take_terminal(root, who, plan.process.get("consoleSize") or {})
            rootfs.console(root, 0)
    else:
        _own_streams(who)
    os.close(root)
    with rootfs.doing(f"chdir to the working directory `{plan.process['cwd']}`"):
        process.enter_cwd(plan.process["cwd"], None if plan.exact else who)
    process.set_rlimits(plan.process.get("rlimits") or [], exact=plan.exact)
    with rootfs.doing("setting how the container's process is scheduled"):
        schedule.apply(plan.process, plan.linux)
    env = process.environment(plan.process, who)
    if plan.exact and plan.process.get("args"):
        _look_for_program(plan, wire, env)
    if plan.gate is not None:
        # `create` ends with what we say next; from then on nobody is there whose end should be ours.
        linux_process.prctl(linux_process.PR_SET_PDEATHSIG, 0)
    handshake.say(wire, handshake.Word.READY, fds=(master,) if master >= 0 else ())
    if master >= 0:
        os.close(master)
    if plan.gate is not None:
        wire.close()
        wire, message = _wait_at(plan.gate)
    else:
        message = handshake.hear(wire)
    if message is None or message.word is not handshake.Word.START:
        os._exit(1)
    # SIGKILL at the monitor's death was for a container that nobody knows of; this one runs.
    linux_process.prctl(linux_process.PR_SET_PDEATHSIG, 0)
    if first is not None:
        reaper.let_go(first)
    _run(plan, wire, who, env, message.values.get("state") or {})


def _enter_root(plan: Plan, wire: socket.socket, shm: int) -> None:
    """The mounts, the hooks that see them, and the step into them."""
    readonly = bool(plan.config["root"].get("readonly"))
    wanted = plan.linux.get("rootfsPropagation") or ""
    own = "mount" in plan.namespaces
    if own:
        # Shared is only what the container makes of its own root: what it mounts must not show on the host.
        private = mountoptions.propagation(wanted) & mount.MS_PRIVATE if wanted else 0
        with rootfs.doing("keeping the container's mounts to itself"):
            mount.mount("none", "/", "", mount.MS_REC | (private or mount.MS_SLAVE))
        who = functools.partial(identify, described=plan.process, named=plan.user, groups=plan.groups, exact=plan.exact)
        builder = rootfs.Builder(plan.config, plan.layout, plan.sources, user_of=who)
        builder.build(plan.process["cwd"] if plan.exact else "/")
        if shm >= 0:
            builder.adopt(shm, "/dev/shm")
        builder.protect()
    if plan.stops_for_hooks:
        handshake.say(wire, handshake.Word.HOOKS)
        message = handshake.hear(wire)
        if message is None or message.word is not handshake.Word.PASSED:
            os._exit(1)
        hooks.run(plan.config, "createContainer", message.values["state"])
    if not own:
        # Nothing was mounted: what is there belongs to all. Only the root is another.
        with rootfs.doing(f"entering the root `{plan.sources.path}`"):
            os.chroot(plan.sources.path)
            os.chdir("/")
        return
    # Private and slave are what it is already, unbindable and shared are made now.
    with rootfs.doing("entering the container's root"):
        step = rootfs.enter if plan.pivot else rootfs.enter_by_chroot
        step(builder.root, readonly=readonly, propagation=mountoptions.propagation(wanted) if wanted else 0)
    builder.close()


def identify(root: int, described: dict[str, Any], *, named: str, groups: Sequence[str], exact: bool) -> user.User:
    """``named`` (a user by name, or ``"name:group"``) goes before the numbers of the process object."""
    if exact:
        return user.exactly(root, described.get("user") or {})
    return user.resolve(root, named or _numeric(described), groups)


def _look_for_program(plan: Plan, wire: socket.socket, env: dict[str, str]) -> None:
    try:
        process.find(plan.process["args"], env)
    except OSError as exc:
        handshake.say(wire, handshake.Word.FAILED, **process.refusal(plan.process["args"], env, exc))
        os._exit(1)


def _wait_at(gate: socket.socket) -> tuple[socket.socket, handshake.Message | None]:
    """Until somebody says START. Who only looks whether we still wait connects and goes."""
    while True:
        connection, _ = gate.accept()
        message = handshake.hear(connection)
        if message is not None:
            # Nobody finds the gate open from now on.
            gate.close()
            return connection, message
        connection.close()


def _run(plan: Plan, wire: socket.socket, who: user.User, env: dict[str, str], state: dict[str, Any]) -> NoReturn:
    args = list(plan.process["args"])
    try:
        hooks.run(plan.config, "startContainer", state, env=env)
        labels.label_next_program(plan.process)
        process.become(who, plan.process, functools.partial(seccomp.load, plan.seal, wire), exact=plan.exact)
    except (errors.DevenvError, OSError) as exc:
        give_up(wire, exc)
    try:
        process.execute(args, env)
    except OSError as exc:
        handshake.say(wire, handshake.Word.FAILED, **process.refusal(args, env, exc))
    os._exit(127)


def _numeric(described: dict[str, Any]) -> str:
    given = described.get("user") or {}
    return f"{given.get('uid', 0)}:{given.get('gid', 0)}" if given.get("uid") or given.get("gid") else ""


def _set_sysctl(name: str, value: str, *, wanted: bool) -> None:
    """In the host's /proc, which shows the namespaces of whoever looks, and which no image can have put there."""
    try:
        descriptor = os.open(f"/proc/sys/{sysctl.path(name)}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as exc:
        # Ours are for comfort; the user's are an error.
        if wanted:
            raise rootfs.Failure(exc.errno or 5, exc.strerror, f"setting `{name}` to `{value}`") from exc


def set_oom_score(score: int, *, exact: bool) -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
    except PermissionError as exc:
        # Going below what we have needs CAP_SYS_RESOURCE, which an ordinary user can't have.
        if exact and os.geteuid() == 0 and namespace.in_initial_user_namespace():
            raise rootfs.Failure(13, exc.strerror, f"setting oom_score_adj to {score}") from exc


def _own_streams(who: user.User) -> None:
    """So that the user can open /dev/stdout again, as servers that log there do.

    Pipes, sockets and terminals only: a file is somebody's, and /dev/null is the whole machine's.
    """
    for number in (0, 1, 2):
        try:
            found = os.fstat(number)
            passing = stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode) or os.isatty(number)
            if passing and found.st_uid != who.uid:
                os.fchown(number, who.uid, who.gid)
        except OSError:
            pass  # it belongs to another, in whose place we may not decide


def take_terminal(root: int, who: user.User, size: dict[str, int]) -> int:
    """A pseudo-terminal from the container's own devpts for the three streams of this session's leader; its master.

    ``size`` is the specification's ``consoleSize``, or empty.
    """
    master = openat2.in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    os.fchown(slave, who.uid, -1)
    if size:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size["height"], size["width"], 0, 0))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(slave, number)
    if slave > 2:
        os.close(slave)
    return master


# Loaded now: a child must not look for it in the container's filesystem.
assert sys.getfilesystemencoding()
"".encode("utf-8", "surrogateescape")
