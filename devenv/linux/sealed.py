"""The interpreter from a place where nobody can write to it: whoever enters a container runs from there.

A process in a container's pid namespace shows its program to the container, as /proc/PID/exe. Root in there may open
that for writing as soon as nobody runs it any more, and with it the machine's own interpreter (CVE-2019-5736). So the
interpreter starts anew from a detached tree: a mount that is read-only and belongs to no namespace. Who finds it can
neither write to it (EROFS) nor mount it elsewhere or make it writable: that takes a mount of one's own namespace
(open_tree(2), mount_setattr(2): EINVAL). Where no tree can be made it is a sealed copy in memory (memfd_create(2)).
"""

from __future__ import annotations

import fcntl
import os
import sys

from devenv.linux import execveat, mount, namespace

_SELF = "/proc/self/exe"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
# F_LINUX_SPECIFIC_BASE + 10; memfd_create(2) with a mode for files that may be executed: Linux 6.3.
_MFD_EXEC = 0x10


def ensure() -> None:
    """Start this very program again if it doesn't run from there already; nothing may have been done yet."""
    if not sealed():
        execute([sys.executable, *sys.orig_argv[1:]])


def interpreter() -> str:
    """What to execute for another sealed interpreter; one that ``ensure`` seals, where ours is not or was replaced."""
    try:
        ours, theirs = os.stat(_SELF), os.stat(sys.executable)
    except OSError:
        return sys.executable
    return _SELF if sealed() and os.path.samestat(ours, theirs) else sys.executable


def sealed() -> bool:
    if os.statvfs(_SELF).f_flag & os.ST_RDONLY:
        return True
    descriptor = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False  # no memfd
    finally:
        os.close(descriptor)


def execute(args: list[str]) -> None:
    """Returns only where there is nothing to protect: an ordinary user's interpreter that belongs to somebody else.

    For a container's root is the user then, outside of it.
    """
    path = os.path.realpath(_SELF)
    if os.geteuid() != 0 and os.stat(path).st_uid != os.geteuid() and not os.access(path, os.W_OK):
        return
    words = dict(os.environ) | _loader(path)
    execveat.execveat(_open(path), args, [f"{name}={value}" for name, value in words.items()])


def _open(path: str) -> int:
    for way in (tree, lent_tree):
        try:
            return way(path)
        except OSError:
            continue
    return copy(path)


def tree(path: str) -> int:
    found = mount.open_tree(mount.AT_FDCWD, path, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    try:
        mount.mount_setattr(found, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
    except BaseException:
        os.close(found)
        raise
    return found


def lent_tree(path: str) -> int:
    """Made by a grandchild that is root in namespaces of its own, which any user may be.

    Nobody waits for its end: taking down a mount namespace takes tens of milliseconds.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    held, hold = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(hold)
            if os.fork() == 0:
                namespace.unshare(namespace.CLONE_NEWUSER | namespace.CLONE_NEWNS)
                os.write(tell, b"/proc/%d/fd/%d" % (os.getpid(), tree(path)))
                os.read(held, 1)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    for descriptor in (tell, held):
        os.close(descriptor)
    try:
        found = os.read(told, 64)
        if not found:
            raise PermissionError(1, "no user namespace may be made")
        return os.open(found, os.O_PATH | os.O_CLOEXEC)
    finally:
        for descriptor in (told, hold):
            os.close(descriptor)


def copy(path: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        made = os.memfd_create("python", flags | _MFD_EXEC)
    except OSError:
        made = os.memfd_create("python", flags)
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.sendfile(made, source, None, 1 << 30):
            pass
    finally:
        os.close(source)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, _SEALS)
    return made


def _loader(path: str) -> dict[str, str]:
    """An interpreter that finds its library by $ORIGIN, its own place, has none any more: then the loader is told.

    ld.so(8) asks /proc/self/exe for it, where a detached tree has no path.
    """
    with open("/proc/self/maps") as file:
        library = next((line for line in file if "/libpython" in line), "")
    if not library:
        return {}
    with open(path, "rb") as program:
        if b"$ORIGIN" not in program.read(1 << 20):
            return {}
    folder = os.path.dirname(library[library.index("/") :].strip())
    return {"LD_LIBRARY_PATH": ":".join(filter(None, (folder, os.environ.get("LD_LIBRARY_PATH"))))}
