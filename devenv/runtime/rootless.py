"""An ordinary user's way in: a user namespace in which that user is root, with the ids that /etc/subuid lends.

    inside 0        the user
    inside 1…65536  the range of /etc/subuid and /etc/subgid, set up by newuidmap(1) and newgidmap(1)

Without a range, or without those two programs, only id 0 exists inside: images whose files all belong to root run,
`user:` and package managers that change owners do not.
"""

from __future__ import annotations

import os
import shutil
import sys

from devenv import errors
from devenv.linux import namespace
from devenv.runtime import subids


def enter() -> None:
    """Move the calling, single-threaded process into a new user namespace. Raises ``HostError``."""
    uid, gid = os.geteuid(), os.getegid()
    uids, gids = subids.of_user("/etc/subuid", uid), subids.of_user("/etc/subgid", uid)
    tools = shutil.which("newuidmap"), shutil.which("newgidmap")
    mapped = bool(uids and gids and all(tools))
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    done_read, done_write = os.pipe2(os.O_CLOEXEC)
    me = os.getpid()
    helper = os.fork()
    if helper == 0:
        # Outside, because only there the setuid helpers have their power.
        code = 1
        try:
            os.close(ready_write)
            os.close(done_read)
            if os.read(ready_read, 1):
                code = _map(me, tools, own=(uid, gid), borrowed=(uids, gids)) if mapped else 0
            os.write(done_write, bytes([code]))
        finally:
            os._exit(code)
    os.close(ready_read)
    os.close(done_write)
    try:
        try:
            namespace.unshare(namespace.CLONE_NEWUSER)
        except OSError as exc:
            raise _refused(exc) from exc
        os.write(ready_write, b"u")
        answer = os.read(done_read, 1)
    finally:
        os.close(ready_write)
        os.close(done_read)
        os.waitpid(helper, 0)
    if mapped and answer != b"\0":
        name = subids.user_name(uid)
        raise errors.HostError(
            "newuidmap could not set the ids of a user namespace up",
            hint=f"check that /etc/subuid and /etc/subgid have a line as `{name}:100000:65536`",
        )
    if not mapped:
        _map_one(uid, gid)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def join(pid: int) -> None:
    """Move into the user namespace of ``pid``, a process of the same user's. Raises ``OSError``."""
    descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespace.setns(descriptor, namespace.CLONE_NEWUSER)
    finally:
        os.close(descriptor)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map(
    pid: int,
    tools: tuple[str | None, str | None],
    *,
    own: tuple[int, int],
    borrowed: tuple[list[subids.Range], list[subids.Range]],
) -> int:
    """0 when both maps are set."""
    for tool, outside, lines in zip(tools, own, borrowed, strict=True):
        assert tool is not None
        words, inside = [tool, str(pid), "0", str(outside), "1"], 1
        for lent in lines:
            words += [str(inside), str(lent.first), str(lent.size)]
            inside += lent.size
        child = os.posix_spawn(tool, words, os.environ)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            return 1
    return 0


def _map_one(uid: int, gid: int) -> None:
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"0 {uid} 1"),
        ("/proc/self/gid_map", f"0 {gid} 1"),
    ):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        except OSError as exc:
            raise _refused(exc) from exc
        finally:
            os.close(descriptor)


def _refused(exc: OSError) -> errors.HostError:
    for path, wanted in (
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "1"),
    ):
        try:
            with open(path) as file:
                if file.read().strip() != wanted:
                    name = path.removeprefix("/proc/sys/").replace("/", ".")
                    return errors.HostError(
                        "this machine does not let ordinary users make user namespaces",
                        hint=f"as root: `sysctl -w {name}={wanted}`, and in /etc/sysctl.d to keep it",
                    )
        except OSError:
            continue
    return errors.HostError(
        f"this machine does not let ordinary users make user namespaces: {exc.strerror}",
        hint="as root: `sysctl -w user.max_user_namespaces=15000`",
        note=sys.platform if sys.platform != "linux" else None,
    )
