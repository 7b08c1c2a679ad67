"""A container's files from outside, whether it runs or not: its root as one descriptor, and work done beneath it.

    running    a child enters the container's mount namespace, opens `/` there, sends the descriptor back and goes
    stopped    a child mounts what the container would see, in a mount namespace of its own, and stays until the end

The descriptor is all that comes back, and every path is looked up beneath it by openat2(2). Nobody who works with
the container's files has the container for a root: no program, library, locale or name service of it is ever loaded
(CVE-2019-14271). Where the container has a user namespace of its own, work is done by a child that is in it, so
that ids are what they are in there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from devenv.linux import mount, namespace
from devenv.linux import process as linux_process
from devenv.runtime import bundle, fuseoverlay, handshake, imagemount, init, mountoptions, rootfs, state, userspace

_ALIVE = frozenset({"running", "paused", "created"})


class View(NamedTuple):
    root: int
    space: int  # a descriptor of the container's user namespace, -1 if that is ours
    own: tuple[str, ...]  # what is part of its root though it is mounted: /usr of `host:`

    def work(self, do: Callable[[int], None], *, close: tuple[int, ...] = ()) -> Work:
        """``do`` in a child, with the root; ``close``: the caller's ends of pipes. The caller has no threads."""
        ours, theirs = handshake.pair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                for descriptor in close:
                    os.close(descriptor)
                if self.space >= 0:
                    namespace.setns(self.space, namespace.CLONE_NEWUSER)
                    init.become_root()
                do(self.root)
                handshake.say(theirs, handshake.Word.READY)
            except BaseException as exc:  # noqa: BLE001  nothing may unwind into the parent's code
                handshake.confess(theirs, exc)
            os._exit(0)
        theirs.close()
        return Work(pid, ours)


class Work(NamedTuple):
    pid: int
    wire: socket.socket

    def wait(self) -> None:
        """Raises ``ContainerError`` with what went wrong."""
        try:
            with self.wire:
                handshake.expect(self.wire, handshake.Word.READY)
        finally:
            os.waitpid(self.pid, 0)


@contextlib.contextmanager
def opened(folder: str, *, name: str) -> Iterator[View]:
    """``folder`` is the bundle of the container that messages call ``name``. The caller is root, if in a user
    namespace, and has no threads. Raises ``ContainerError``."""
    config = bundle.load(folder, name=name)
    current = state.load(folder)
    layout = json.loads((config.get("annotations") or {}).get(bundle.ROOTFS) or "{}")
    own = tuple(each["target"] for each in layout.get("overlays") or [] if each["target"] != "/")
    own += tuple(target for _, target in layout.get("binds") or [])
    with contextlib.ExitStack() as stack:
        space = -1
        if current is not None and current.pid is not None and current.status in _ALIVE:
            if userspace.mapping(config) is not None:
                space = os.open(f"/proc/{current.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, space)
            place = os.open(f"/proc/{current.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, place)
            child = _Helper(lambda: _entered(place))
        else:
            os.makedirs(f"{folder}/rootfs", exist_ok=True)
            child = _Helper(lambda: _mounted(config, layout, folder))
        stack.callback(child.end)
        root = child.root()
        stack.callback(os.close, root)
        yield View(root, space, own)


class _Helper:
    """A child that makes a root and sends it; it stays until it is told to go."""

    def __init__(self, make: Callable[[], int]) -> None:
        self._wire, theirs = handshake.pair()
        self._pid = os.fork()
        if self._pid == 0:
            self._wire.close()
            self._run(make, theirs)
        theirs.close()

    def root(self) -> int:
        return handshake.expect(self._wire, handshake.Word.READY).fds[0]

    def end(self) -> None:
        self._wire.close()
        os.waitpid(self._pid, 0)

    def _run(self, make: Callable[[], int], wire: socket.socket) -> NoReturn:
        try:
            linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
            handshake.say(wire, handshake.Word.READY, fds=(make(),))
            handshake.hear(wire)
        except BaseException as exc:  # noqa: BLE001  nothing may unwind into the parent's code
            handshake.confess(wire, exc)
        os._exit(0)


def _entered(place: int) -> int:
    namespace.setns(place, namespace.CLONE_NEWNS)
    # Where this leads is the namespace's root, wherever its processes may have gone by chroot(2).
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mounted(config: dict[str, Any], layout: dict[str, Any], folder: str) -> int:
    """The image with the writable layer, and volumes and binds. What only a process could see is left out."""
    # From where we still are, or what it starts would keep our mounts and live as long as they do.
    fused = fuseoverlay.take_over(
        layout.get("overlays") or [],
        place=f"{folder}/rootfs",
        in_user_namespace=not namespace.in_initial_user_namespace(),
    )
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount("none", "/", "", mount.MS_REC | mount.MS_SLAVE)
    mounts = []
    for each in config.get("mounts") or []:
        if mountoptions.is_bind(each) or imagemount.is_one(each) or each["destination"] == "/dev":
            # On the disk ids are what they are in the container.
            words = [word for word in each.get("options") or [] if word not in {"idmap", "ridmap"}]
            mounts.append({**each, "options": words})
    plain = {
        "root": {"path": config["root"]["path"]},
        "process": {},
        "mounts": mounts,
        "linux": {"namespaces": []},
    }
    sources = rootfs.Sources(plain, folder)
    sources.fused = fused
    builder = rootfs.Builder(plain, layout, sources)
    builder.build("/")
    return builder.root
