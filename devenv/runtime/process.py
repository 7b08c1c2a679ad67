"""The last steps of a process on its way into a container: limits, user, capabilities, execve(2). For init and exec.

Runs after pivot_root or setns, with the container's filesystem for its root and the host's rights still in hand. So it
imports nothing, looks nothing up by NSS and opens nothing but what it names here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Callable
from typing import Any

from devenv import errors
from devenv.linux import descriptors, procfs
from devenv.linux import process as linux_process
from devenv.runtime import capabilities, failure, user

# In the order of their numbers (asm-generic/resource.h); Python's own table lacks LOCKS and RTTIME.
RLIMITS = (
    "RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK "
    "RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME"
).split()
_LAST_CAPABILITY = capabilities.last()
_SETPCAP = 8


def set_rlimits(limits: list[dict[str, Any]], *, exact: bool) -> None:
    """A hard limit above our own needs CAP_SYS_RESOURCE; without it, ours is the most there is to give.

    ``exact``: what can't be had as it stands is an error, as the specification wants it.
    """
    for limit in limits:
        if limit["type"] not in RLIMITS:
            raise OSError(22, "unknown limit", f"setting `{limit['type']}`")
        kind = RLIMITS.index(limit["type"])
        if kind == resource.RLIMIT_NOFILE:
            descriptors.is_chosen()
        # 2^64-1 is what others call -1: no limit.
        soft, hard = (-1 if limit[name] >= 1 << 63 else limit[name] for name in ("soft", "hard"))
        try:
            resource.setrlimit(kind, (soft, hard))
        except (PermissionError, ValueError) as exc:
            if exact:
                what = f"setting `{limit['type']}` to {limit['soft']}, {limit['hard']}"
                raise failure.Failure(1, f"{exc}", what) from exc
            ours = resource.getrlimit(kind)[1]
            hard = ours if ours != resource.RLIM_INFINITY and (hard == -1 or hard > ours) else hard
            soft = hard if hard != -1 and (soft == -1 or soft > hard) else soft
            resource.setrlimit(kind, (soft, hard))


def raise_rlimits(limits: list[dict[str, Any]]) -> None:
    """The hard limits that are above ours, while we are still who may: in a user namespace nobody is."""
    for limit in limits:
        hard = -1 if limit["hard"] >= 1 << 63 else limit["hard"]
        if limit["type"] in RLIMITS:
            kind = RLIMITS.index(limit["type"])
            soft, ours = resource.getrlimit(kind)
            if ours != resource.RLIM_INFINITY and (hard == -1 or hard > ours):
                with contextlib.suppress(PermissionError, ValueError):
                    resource.setrlimit(kind, (soft, hard))


def become(who: user.User, process: dict[str, Any], seal: Callable[[], None], *, exact: bool) -> None:
    """Give up every right that the container's process is not to have, for good.

    ``seal`` loads the filter for system calls, as late as the kernel lets it: hardly anything of what we do here has
    to be allowed by it. ``exact``: the five sets of capabilities are taken as they stand, which is how the
    specification has them. Without it as Docker does: whoever is not root has none.
    """
    descriptors.give_back()
    described = process.get("user")
    umask = described.get("umask") if isinstance(described, dict) else None
    os.umask(0o022 if umask is None else umask)
    sets = process.get("capabilities") or {}
    bounding, effective, permitted, inheritable, ambient = (
        capabilities.mask(sets.get(name) or ())
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    )
    held = linux_process.permitted()
    if held >> _SETPCAP & 1:
        for number in range(_LAST_CAPABILITY + 1):
            if not bounding >> number & 1 and linux_process.prctl(linux_process.PR_CAPBSET_READ, number):
                linux_process.prctl(linux_process.PR_CAPBSET_DROP, number)
    try:
        _set_groups(who)
        os.setresgid(who.gid, who.gid, who.gid)
        linux_process.prctl(linux_process.PR_SET_KEEPCAPS, 1)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise errors.ContainerError(
            f"user {who.uid}:{who.gid} does not exist in this user namespace",
            hint="give yourself a range of ids: as root, `usermod --add-subuids 100000-165535 --add-subgids "
            "100000-165535 NAME`; `devenv doctor` has the line for you",
        ) from exc
    linux_process.prctl(linux_process.PR_SET_KEEPCAPS, 0)
    if who.uid != 0 and not exact:
        # As Docker: a user without root's id has no capabilities, but what it may gain stays bounded.
        effective = permitted = 0
    permitted &= held
    inheritable &= held
    # Only what is permitted and inheritable can be ambient, and it stays so when the rest of what we hold goes.
    linux_process.capset(effective=held, permitted=held, inheritable=inheritable)
    linux_process.prctl(linux_process.PR_CAP_AMBIENT, linux_process.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_LAST_CAPABILITY + 1):
        if ambient & permitted & inheritable & 1 << number:
            linux_process.prctl(linux_process.PR_CAP_AMBIENT, linux_process.PR_CAP_AMBIENT_RAISE, number)
    no_new_privileges = process.get("noNewPrivileges")
    if not no_new_privileges:
        # Then it takes CAP_SYS_ADMIN (seccomp(2)), which is about to go.
        seal()
    linux_process.capset(effective=effective & permitted, permitted=permitted, inheritable=inheritable)
    if no_new_privileges:
        linux_process.prctl(linux_process.PR_SET_NO_NEW_PRIVS, 1)
        seal()


def _set_groups(who: user.User) -> None:
    try:
        os.setgroups(list(who.groups))
    except PermissionError:
        # A user namespace with one id only: setgroups(2) is denied there for good (user_namespaces(7)).
        descriptor = procfs.open_own("setgroups", os.O_RDONLY)
        try:
            if os.read(descriptor, 64).strip() != b"deny":
                raise
        finally:
            os.close(descriptor)


def environment(process: dict[str, Any], who: user.User) -> dict[str, str]:
    found = dict(item.partition("=")[::2] for item in process.get("env") or ())
    if not found.get("HOME"):
        found["HOME"] = who.home
    return found


def enter_cwd(path: str, owner: user.User | None) -> None:
    """The working directory, made if it is missing and given to ``owner``; never one outside the root."""
    try:
        os.chdir(path)
    except FileNotFoundError:
        made = ""
        for part in path.strip("/").split("/"):
            made = f"{made}/{part}"
            try:
                os.mkdir(made, 0o755)
                if owner is not None:
                    os.chown(made, owner.uid, owner.gid)
            except FileExistsError:
                continue
        os.chdir(path)
    # CVE-2024-21626: a descriptor of the host's as the working directory is one that getcwd can't name.
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise OSError(1, "it lies outside the container", f"entering `{path}`")


def find(args: list[str], env: dict[str, str]) -> None:
    """Whether there is something to execute, told before anybody waits for it. Raises ``OSError`` as ``execute`` does.

    Asked with the host's rights, so what the user may not execute is found out later.
    """
    name = args[0]
    folders = [""] if "/" in name else [f"{folder or '.'}/" for folder in _path(env)]
    denied: OSError | None = None
    for folder in folders:
        try:
            found = os.stat(f"{folder}{name}")
        except (FileNotFoundError, NotADirectoryError):
            if "/" in name:
                raise
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
            return
        denied = PermissionError(13, os.strerror(13), name)
    raise denied or FileNotFoundError(2, "not found", name)


def refusal(args: list[str], env: dict[str, str], exc: OSError) -> dict[str, Any]:
    """What is told of a program that can't be run; ``half``: it is there, and what its first line names is not."""
    half = False
    if exc.errno == errno.ENOENT:
        with contextlib.suppress(OSError):
            find(args, env)
            half = True
    return {"command": args[0], "errno": exc.errno or errno.EIO, "half": half}


def _path(env: dict[str, str]) -> list[str]:
    return (env.get("PATH") or "/bin:/usr/bin").split(":")


def execute(args: list[str], env: dict[str, str]) -> None:
    """Returns never; raises the ``OSError`` that says best why nothing could be run."""
    name = args[0]
    if "/" in name:
        os.execve(name, args, env)
    denied: OSError | None = None
    for folder in _path(env):
        try:
            os.execve(f"{folder or '.'}/{name}", args, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            denied = exc
    raise denied or FileNotFoundError(2, "not found", name)
