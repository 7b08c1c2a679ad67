"""Where to look: inotify's events through watchdog, and polling where they don't come.

One watch a folder, none for what every rule leaves out, so that a `node_modules` costs nothing. watchdog's own
observer is not used: it watches all that is beneath a folder, wakes up whenever somebody reads a file, and holds a
move back for half a second.

    an event              its path is looked at again
    a new folder          watched first and looked at then, so that nothing made in between is missed
    the queue overflows   everything is watched anew and looked at
    no watch to be had    said once, and everything is looked at again and again
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from watchdog.observers import inotify_c

from devenv.linux import statfs
from devenv.sync import debounce, tree

_C = inotify_c.InotifyConstants
_GONE = _C.IN_MOVED_FROM | _C.IN_DELETE
_WHOLE = _C.IN_CLOSE_WRITE | _C.IN_MOVED_TO | _C.IN_ATTRIB | _GONE
_SELF = _C.IN_DELETE_SELF | _C.IN_MOVE_SELF
_MASK = _WHOLE | _C.IN_MODIFY | _C.IN_CREATE | _SELF
_FLAGS = _C.IN_ONLYDIR | _C.IN_DONT_FOLLOW | _C.IN_EXCL_UNLINK

POLL = 1.0  # seconds between two looks, and never more than a tenth of the time is spent on them

# statfs(2): others may change files there, and the kernel hears only of what is done on this machine.
REMOTE = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x01021997: "9p",
    0x65735546: "FUSE",
    0x786F4256: "a VirtualBox share",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
}


class Changes(NamedTuple):
    paths: dict[str, bool]  # -> whether all beneath it is to be looked at, too
    everything: bool


class Watcher:
    """``notify`` is called, on another thread, when something waits where nothing has; ``warn`` with a message and
    a hint. ``skip`` as for a ``tree.Tree``."""

    def __init__(
        self,
        roots: Iterable[str],
        *,
        skip: tree.Skip,
        notify: Callable[[], None],
        warn: Callable[[str, str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roots = list(roots)
        self._skip = skip
        self._notify = notify
        self._warn = warn
        self._now = now
        self._lock = threading.RLock()
        self._folders: dict[str, _Folder] = {}
        self._anchors: dict[str, _Anchor] = {}
        self._pending: dict[str, bool] = {}
        self._everything = False
        self._lost = False  # events were: which folders there are is not known any more
        self._inotify: inotify_c.InotifyFD | None = None
        self._poller: threading.Thread | None = None
        self._closing = threading.Event()
        self._warned: set[str] = set()
        self.debounce = debounce.Debounce()
        self.cost = 0.0  # seconds that the last look at everything took; whoever looks says so

    # -- for the one who acts ------------------------------------------------------------------------------------

    def start(self) -> None:
        self._begin()
        for root in self._roots:
            kind = _remote(root)
            if kind:
                self._poll(f"`{root}` is on {kind}, where changes made elsewhere are not told of", "")

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.stop()
            inotify.join()
        if self._poller is not None:
            self._poller.join()

    def due(self) -> float | None:
        with self._lock:
            return self.debounce.due()

    def calm(self) -> float:
        with self._lock:
            return self.debounce.calm()

    def take(self) -> Changes:
        """What is to be looked at; whoever takes it is told of the next."""
        with self._lock:
            changes = Changes(self._pending, self._everything)
            self._pending, self._everything = {}, False
            self.debounce.taken()
            lost, self._lost = self._lost, False
        if lost:
            self._begin_anew()
        return changes

    def look_at_everything(self) -> None:
        with self._lock:
            self._everything = True
        self._told(weak=False)

    @property
    def count(self) -> int:
        return len(self._folders)

    # -- watching ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._folders, self._anchors = {}, {}
            try:
                self._inotify = inotify_c.InotifyFD()
            except OSError as exc:
                self._inotify = None
                self._limited(exc, "")
                return
            self._inotify.start()
        self._watch_roots()

    def _begin_anew(self) -> None:
        """The new watches come before the old ones go, and the look at everything after both."""
        with self._lock:
            old = self._inotify
        self._begin()
        if old is not None:
            old.stop()
            old.join()

    def _watch_roots(self) -> None:
        for root in self._roots:
            self._anchor(root)
            self._watch_tree(root)

    def _anchor(self, root: str) -> None:
        """Watch for ``root`` itself being made, moved or replaced: its folder, or the nearest that is there."""
        name = root
        while name != "/":
            folder = os.path.dirname(name)
            with self._lock:
                anchor = self._anchors.get(folder)
                if anchor is None or anchor.gone:
                    anchor = _Anchor(self, folder)
                    if not self._add(anchor):
                        name = folder
                        continue
                    self._anchors[folder] = anchor
                anchor.roots.setdefault(os.path.basename(name), set()).add(root)
            return

    def _watch_tree(self, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            with self._lock:
                if folder not in self._folders:
                    made = _Folder(self, folder)
                    if not self._add(made):
                        continue
                    self._folders[folder] = made
            try:
                with os.scandir(folder) as entries:
                    inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            waiting += [path for path in inner if not self._skip(path, True)]

    def _add(self, folder: _Folder) -> bool:
        if self._inotify is None:
            return False
        try:
            folder.wd = self._inotify.add_callback(
                os.fsencode(folder.path), inotify_c.Mask(_MASK | _FLAGS), folder, inotify_c.CallbackId(id(folder))
            )
        except OSError as exc:
            if exc.errno in {errno.ENOSPC, errno.EMFILE, errno.ENOMEM}:
                self._limited(exc, folder.path)
            return False
        # watchdog tells nothing of a folder that may not be read (EACCES), and has no descriptor for it.
        return folder.wd >= 0

    def _unwatch(self, top: str) -> None:
        with self._lock:
            inner = [path for path in self._folders if path == top or path.startswith(f"{top}/")]
            found = [self._folders.pop(path) for path in inner]
            inotify = self._inotify
        if inotify is not None:
            live = [(each.wd, inotify_c.CallbackId(id(each))) for each in found if not each.gone]
            inotify.remove_callbacks(live)

    # -- events, on watchdog's thread ------------------------------------------------------------------------------

    def on_event(self, folder: _Folder, event: inotify_c.InotifyEvent) -> None:
        if event.mask & _SELF:
            if folder.path in self._roots:
                self._mark(folder.path, deep=True)
            return
        path = f"{folder.path}/{os.fsdecode(event.name)}"
        is_folder = bool(event.mask & _C.IN_ISDIR)
        if self._skip(path, is_folder):
            return
        if is_folder:
            if event.mask & _C.IN_MOVED_FROM:
                self._unwatch(path)
            elif event.mask & (_C.IN_CREATE | _C.IN_MOVED_TO):
                self._watch_tree(path)
            self._mark(path, deep=bool(event.mask & (_C.IN_CREATE | _C.IN_MOVED_TO)))
            return
        self._mark(path, weak=not event.mask & _WHOLE and not os.path.islink(path))

    def on_anchor(self, anchor: _Anchor, event: inotify_c.InotifyEvent) -> None:
        for root in anchor.roots.get(os.fsdecode(event.name), ()):
            if event.mask & _C.IN_ISDIR and event.mask & _GONE:
                self._unwatch(root)
            elif event.mask & (_C.IN_CREATE | _C.IN_MOVED_TO):
                self._anchor(root)
                self._watch_tree(root)
            self._mark(root, deep=True, weak=not event.mask & (_WHOLE | _C.IN_ISDIR))

    def overflowed(self) -> None:
        """Events were lost, those of new folders among them."""
        with self._lock:
            if self._lost:
                return
            self._lost = True
        self.look_at_everything()

    def forgot(self, folder: _Folder) -> None:
        with self._lock:
            if self._folders.get(folder.path) is folder:
                del self._folders[folder.path]

    def _mark(self, path: str, *, deep: bool = False, weak: bool = False) -> None:
        with self._lock:
            self._pending[path] = deep or self._pending.get(path, False)
        self._told(weak=weak)

    def _told(self, *, weak: bool) -> None:
        with self._lock:
            waited, before = self.debounce.waits, self.debounce.due()
            self.debounce.event(self._now(), weak=weak)
            after = self.debounce.due()
        # Whoever waits already looks at the clock again by himself, unless it is due sooner than he thinks.
        if not waited or (before is not None and after is not None and after < before):
            self._notify()

    # -- polling ---------------------------------------------------------------------------------------------------

    def _limited(self, exc: OSError, folder: str) -> None:
        watches = exc.errno == errno.ENOSPC
        name = "max_user_watches" if watches else "max_user_instances"
        limit = _sysctl(name)
        where = f" at `{folder}`" if folder else ""
        self._poll(
            f"the limit of {limit} inotify {'watches' if watches else 'instances'} is reached{where}",
            f"sudo sysctl fs.inotify.{name}={max(524288 if watches else 1024, 2 * limit)}",
        )

    def _poll(self, why: str, hint: str) -> None:
        with self._lock:
            if why.partition(" at ")[0] not in self._warned:
                self._warned.add(why.partition(" at ")[0])
                self._warn(f"{why}: looking for changes every second instead", hint)
            if self._poller is None and not self._closing.is_set():
                self._poller = threading.Thread(target=self._keep_polling, name="watch-poll", daemon=True)
                self._poller.start()

    def _keep_polling(self) -> None:
        while not self._closing.wait(max(POLL, 10 * self.cost)):
            with self._lock:
                self._pending.update(dict.fromkeys(self._roots, True))
            self._told(weak=False)


class _Folder:
    """watchdog's callback for one folder; the path is where the folder was when it was watched."""

    __slots__ = ("_watcher", "gone", "path", "wd")

    def __init__(self, watcher: Watcher, path: str) -> None:
        self._watcher = watcher
        self.path = path
        self.wd = inotify_c.WatchDescriptor(-1)
        self.gone = False

    def on_event(self, event: inotify_c.InotifyEvent) -> None:
        self._watcher.on_event(self, event)

    def on_watch_deleted(self, wd: inotify_c.WatchDescriptor) -> None:
        self.gone = True
        self._watcher.forgot(self)

    def on_queue_overflow(self) -> None:
        self._watcher.overflowed()


class _Anchor(_Folder):
    """The folder that a root is in, or would be."""

    __slots__ = ("roots",)

    def __init__(self, watcher: Watcher, path: str) -> None:
        super().__init__(watcher, path)
        self.roots: dict[str, set[str]] = {}

    def on_event(self, event: inotify_c.InotifyEvent) -> None:
        self._watcher.on_anchor(self, event)

    def on_watch_deleted(self, wd: inotify_c.WatchDescriptor) -> None:
        self.gone = True


def _remote(path: str) -> str:
    while not os.path.lexists(path) and path != "/":
        path = os.path.dirname(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return REMOTE.get(statfs.f_type(descriptor) & 0xFFFFFFFF, "")
    finally:
        os.close(descriptor)


def _sysctl(name: str) -> int:
    with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
        return int(file.read())
