"""A container's root filesystem: first data, a list of operations, then mounts, all inside its own mount namespace.

Every target is looked up by openat2(2) beneath the new root and mounted by its descriptor, so no symbolic link of an
image, and none that another container swaps in meanwhile, leads a mount out (CVE-2021-30465 and its kin). Binds are
taken off the host as detached trees by open_tree(2), made read-only before they are attached, and then moved in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any, NamedTuple

from devenv.linux import mount, namespace, openat2
from devenv.runtime import copyup

_FLAGS = {
    "ro": mount.MS_RDONLY,
    "nosuid": mount.MS_NOSUID,
    "nodev": mount.MS_NODEV,
    "noexec": mount.MS_NOEXEC,
    "sync": mount.MS_SYNCHRONOUS,
    "dirsync": mount.MS_DIRSYNC,
    "noatime": mount.MS_NOATIME,
    "nodiratime": mount.MS_NODIRATIME,
    "relatime": mount.MS_RELATIME,
    "strictatime": mount.MS_STRICTATIME,
}
_IGNORED = frozenset({"rw", "suid", "dev", "exec", "async", "atime", "defaults", "bind", "rbind", "z", "Z"})
_PROPAGATION = {
    name: flag | (mount.MS_REC if name.startswith("r") else 0)
    for name, flag in (
        ("private", mount.MS_PRIVATE),
        ("rprivate", mount.MS_PRIVATE),
        ("slave", mount.MS_SLAVE),
        ("rslave", mount.MS_SLAVE),
        ("shared", mount.MS_SHARED),
        ("rshared", mount.MS_SHARED),
        ("unbindable", mount.MS_UNBINDABLE),
        ("runbindable", mount.MS_UNBINDABLE),
    )
}
_ATTRIBUTES = {
    "ro": mount.MOUNT_ATTR_RDONLY,
    "nosuid": mount.MOUNT_ATTR_NOSUID,
    "nodev": mount.MOUNT_ATTR_NODEV,
    "noexec": mount.MOUNT_ATTR_NOEXEC,
    "nosymfollow": mount.MOUNT_ATTR_NOSYMFOLLOW,
}
# Mounting over these takes away what the runtime itself relies on.
REFUSED = frozenset({"/", "/proc", "/sys", "/dev"})

_NODES = ((1, 3, "null"), (1, 5, "zero"), (1, 7, "full"), (1, 8, "random"), (1, 9, "urandom"), (5, 0, "tty"))
_LINKS = (
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
)


class Failure(OSError):
    """An ``OSError`` that knows what was being done: its ``filename`` is the whole of it, in words."""


class Options(NamedTuple):
    """A mount's option strings, sorted out."""

    flags: int
    data: str
    attributes: int
    recursive: bool  # rbind
    readonly_all: bool  # rro: submounts too
    propagation: int
    copyup: bool


def parse(options: list[str]) -> Options:
    flags, attributes, propagation, data = 0, 0, 0, []
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
            attributes |= _ATTRIBUTES.get(option, 0)
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option not in _IGNORED and option not in {"rro", "copyup"}:
            data.append(option)
    return Options(
        flags=flags,
        data=",".join(data),
        attributes=attributes,
        recursive="rbind" in options,
        readonly_all="rro" in options,
        propagation=propagation,
        copyup="copyup" in options,
    )


def overlay_data(lower: list[str], upper: str, work: str, *, in_user_namespace: bool) -> str:
    """The option string of one overlay. `:` and `,` in paths are escaped as the kernel's parser wants."""
    parts = [f"lowerdir={':'.join(_escaped(path) for path in lower)}"]
    parts += [f"upperdir={_escaped(upper)}", f"workdir={_escaped(work)}"]
    if in_user_namespace:
        # trusted.* attributes need CAP_SYS_ADMIN in the initial namespace; user.* ones do (kernel 5.11).
        parts.append("userxattr")
    else:
        # Off, so that an upper folder can be read, copied and put over other lowers without its mount.
        parts += ["index=off", "metacopy=off"]
    return ",".join(parts)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


class Builder:
    """Mounts one container's root. Used in its first process, before it is let go."""

    def __init__(self, config: dict[str, Any], layout: dict[str, Any], root: str) -> None:
        self._config = config
        self._layout = layout
        self._path = root
        self._user_namespace = not namespace.in_initial_user_namespace()
        self.root = -1
        self._trees: list[int] = []  # what the root is made of beside itself
        # Ours, not the image's, to mask files with (CVE-2025-31133).
        self._null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)

    def build(self) -> None:
        """Raises ``Failure``. Afterwards ``root`` is a descriptor of the whole root, still writable everywhere."""
        self._root()
        for entry in self._config.get("mounts") or []:
            target = os.path.normpath(entry["destination"])
            with doing(f"mounting `{entry.get('source') or entry['type']}` on `{target}`"):
                self._mount(entry, target)
                if target == "/dev":
                    self._devices()
        self._extra_devices()

    def protect(self) -> None:
        """Hide and make read-only what is to be so; after everything that is written there for the container."""
        for path in (self._config.get("linux") or {}).get("maskedPaths") or []:
            with doing(f"masking `{path}`"):
                self._mask(path)
        for path in (self._config.get("linux") or {}).get("readonlyPaths") or []:
            with doing(f"making `{path}` read-only"):
                self._make_readonly(path)
        if self._config["root"].get("readonly"):
            for tree in self._trees:
                mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)

    # -- the root ----------------------------------------------------------------------------------------------

    def _root(self) -> None:
        overlays = self._layout.get("overlays") or []
        if not overlays:
            with doing(f"mounting the root `{self._path}`"):
                mount.mount(self._path, self._path, "bind", mount.MS_BIND | mount.MS_REC)
                self.root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        for number, overlay in enumerate(overlays):
            with doing(f"mounting the image on `{overlay['target']}`"):
                if number == 0:
                    self._overlay(overlay, self._path)
                    self.root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                else:
                    target = self._folder(overlay["target"])
                    self._overlay(overlay, f"/proc/self/fd/{target}")
                    os.close(target)
                    self._trees.append(self._folder(overlay["target"]))
        for source, target in self._layout.get("binds") or []:
            with doing(f"mounting `{source}` on `{target}`"):
                self._bind(source, target, parse(["rbind", "ro", "rro"]))

    def _overlay(self, overlay: dict[str, Any], target: str) -> None:
        data = overlay_data(overlay["lower"], overlay["upper"], overlay["work"], in_user_namespace=self._user_namespace)
        if len(data) < 4000:
            mount.mount("overlay", target, "overlay", 0, data)
            return
        # More layers than fit into the one page that mount(2) copies: one by one (kernel 6.5).
        context = mount.fsopen("overlay")
        for path in overlay["lower"]:
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", path)
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "upperdir", overlay["upper"])
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "workdir", overlay["work"])
        if self._user_namespace:
            mount.fsconfig(context, mount.FSCONFIG_SET_FLAG, "userxattr")
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        tree = mount.fsmount(context, 0)
        mount.move_mount(tree, "", mount.AT_FDCWD, target, mount.MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)
        os.close(context)

    # -- mounts ------------------------------------------------------------------------------------------------

    def _mount(self, entry: dict[str, Any], target: str) -> None:
        options = parse(entry.get("options") or [])
        kind = entry["type"]
        if kind == "bind" or {"bind", "rbind"} & set(entry.get("options") or []):
            if target in REFUSED:
                raise OSError(errno.EINVAL, "a volume can't take the place of it")
            self._bind(entry["source"], target, options)
        elif kind == "cgroup":
            self._cgroup(target, options)
        elif kind == "sysfs":
            self._sysfs(target, options)
        elif kind == "tmpfs":
            if target == "/":
                raise OSError(errno.EINVAL, "it can't take the place of the root")
            self._filesystem("tmpfs", target, options)
        elif kind == "mqueue" and not self._has_namespace("ipc"):
            self._bind("/dev/mqueue", target, parse(["rbind"]))
        elif kind == "proc" and not self._has_namespace("pid"):
            self._bind("/proc", target, parse(["rbind"]))
        else:
            self._filesystem(kind, target, options)

    def _has_namespace(self, kind: str) -> bool:
        return any(each["type"] == kind for each in self._config["linux"]["namespaces"])

    def _filesystem(self, kind: str, target: str, options: Options) -> None:
        data = options.data
        if kind == "devpts" and self._user_namespace:
            # Group 5 may not be mapped.
            data = ",".join(part for part in data.split(",") if not part.startswith("gid="))
        descriptor = self._folder(target, procfs=kind == "proc")
        try:
            mount.mount(kind, f"/proc/self/fd/{descriptor}", kind, options.flags, data)
        finally:
            os.close(descriptor)

    def _sysfs(self, target: str, options: Options) -> None:
        try:
            self._filesystem("sysfs", target, options)
        except PermissionError:
            # Only who owns the network namespace may mount it: with the host's, the host's own is shown.
            self._bind("/sys", target, parse(["rbind", "ro", "rro"]))

    def _cgroup(self, target: str, options: Options) -> None:
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            with contextlib.suppress(PermissionError):
                self._filesystem("cgroup2", target, options)
            return
        self._filesystem("tmpfs", target, options._replace(flags=options.flags & ~mount.MS_RDONLY, data="mode=755"))
        for name, folder in sorted((self._layout.get("cgroups") or {}).items()):
            with contextlib.suppress(OSError):
                self._bind(folder, f"{target}/{name}", options)

    def _bind(self, source: str, target: str, options: Options) -> None:
        clone = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC
        tree = mount.open_tree(mount.AT_FDCWD, source, clone | mount.AT_RECURSIVE)
        try:
            place = self._place(target, is_folder=stat.S_ISDIR(os.stat(source).st_mode))
            if options.copyup and place[1]:
                copyup.fill(source, place[0])
            if options.attributes or options.readonly_all:
                everything = mount.AT_RECURSIVE if options.readonly_all or options.recursive else 0
                mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH | everything, attr_set=options.attributes)
            self._attach(tree, place[0])
            os.close(place[0])
            if options.propagation and not options.propagation & mount.MS_PRIVATE:
                mount.mount("none", f"/proc/self/fd/{tree}", "", options.propagation)
        finally:
            os.close(tree)

    def adopt(self, tree: int, target: str) -> None:
        """Attach a detached tree that somebody else cloned, and close it."""
        with doing(f"mounting `{target}`"):
            place = self._folder(target)
            self._attach(tree, place)
            os.close(place)
            os.close(tree)

    def _attach(self, tree: int, place: int) -> None:
        flags = mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH
        mount.move_mount(tree, "", place, "", flags)

    # -- places in the root ------------------------------------------------------------------------------------

    def _place(self, target: str, *, is_folder: bool) -> tuple[int, bool]:
        """A descriptor of ``target``, made if need be, and whether it is a folder."""
        if is_folder:
            return self._folder(target), True
        try:
            return openat2.in_root(self.root, target, os.O_PATH), False
        except FileNotFoundError:
            parent = self._folder(os.path.dirname(target))
        try:
            made = os.open(
                os.path.basename(target), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent
            )
            os.close(made)
        except FileExistsError:
            pass  # a link that leads nowhere inside the root
        finally:
            os.close(parent)
        return openat2.in_root(self.root, target, os.O_PATH), False

    def _folder(self, target: str, *, procfs: bool = False) -> int:
        """A descriptor of the folder, with all that is missing of its path made: each step beneath the root."""
        if procfs:
            # /proc as a link would lead every later write to it astray (CVE-2019-19921).
            with contextlib.suppress(FileExistsError):
                os.mkdir("proc", 0o555, dir_fd=self._real_root())
            return os.open("proc", os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root)
        try:
            return openat2.in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            parent = self._folder(os.path.dirname(target.rstrip("/")) or "/")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.basename(target.rstrip("/")), 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        return openat2.in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)

    def _real_root(self) -> int:
        return self.root

    # -- devices -----------------------------------------------------------------------------------------------

    def _devices(self) -> None:
        folder = self._folder("/dev")
        try:
            for major, minor, name in _NODES:
                self._node(folder, name, f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
            for source, name in _LINKS:
                os.symlink(source, name, dir_fd=folder)
            for name in ("pts", "shm", "mqueue"):
                os.mkdir(name, 0o755, dir_fd=folder)
        finally:
            os.close(folder)

    def _node(self, folder: int, name: str, source: str, mode: int, device: int) -> None:
        if not self._user_namespace:
            os.mknod(name, mode, device, dir_fd=folder)
            os.chmod(f"/proc/self/fd/{folder}/{name}", mode & 0o777)
            return
        # A user namespace may not make nodes; the host's own are bound in.
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder))
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        tree = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
        self._attach(tree, place)
        os.close(tree)
        os.close(place)

    def _extra_devices(self) -> None:
        for device in (self._config.get("linux") or {}).get("devices") or []:
            source = device.get("x-devenv-source") or device["path"]
            with doing(f"adding the device `{source}`"):
                found = os.stat(source)
                if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
                    raise OSError(errno.ENODEV, "it is not a device")
                folder = self._folder(os.path.dirname(device["path"]))
                name = os.path.basename(device["path"])
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                self._node(folder, name, source, found.st_mode, found.st_rdev)
                if not self._user_namespace:
                    os.chown(name, found.st_uid, found.st_gid, dir_fd=folder)
                os.close(folder)

    # -- what is hidden ----------------------------------------------------------------------------------------

    def _mask(self, path: str) -> None:
        try:
            place = openat2.in_root(self.root, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return  # this kernel doesn't have it
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode):
                mount.mount("tmpfs", f"/proc/self/fd/{place}", "tmpfs", mount.MS_RDONLY, "size=0k,mode=555")
            else:
                tree = mount.open_tree(
                    self._null, "", mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
                )
                self._attach(tree, place)
                os.close(tree)
        finally:
            os.close(place)

    def _make_readonly(self, path: str) -> None:
        try:
            place = openat2.in_root(self.root, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        clone = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH | mount.AT_RECURSIVE
        try:
            tree = mount.open_tree(place, "", clone)
            mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH | mount.AT_RECURSIVE, attr_set=mount.MOUNT_ATTR_RDONLY)
            self._attach(tree, place)
            os.close(tree)
        finally:
            os.close(place)


@contextlib.contextmanager
def doing(what: str):  # type: ignore[no-untyped-def]
    """Name the step in whatever goes wrong in it."""
    try:
        yield
    except Failure:
        raise
    except OSError as exc:
        raise Failure(exc.errno or errno.EIO, exc.strerror or str(exc), what) from exc


def enter(root: int, *, readonly: bool) -> None:
    """pivot_root(2) into ``root`` and let go of the old one; the container can't reach it any more."""
    os.fchdir(root)
    # Onto itself: the old root is stacked on the new one and detached, with no folder to make for it.
    mount.pivot_root(".", ".")
    mount.umount2(".", mount.MNT_DETACH)
    os.chdir("/")
    if readonly:
        mount.mount_setattr(mount.AT_FDCWD, "/", 0, attr_set=mount.MOUNT_ATTR_RDONLY)


def console(root: int, slave: int) -> None:
    """The terminal's container end on /dev/console, where programs look for it."""
    dev = openat2.in_root(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(os.open("console", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dev))
        place = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
        tree = mount.open_tree(slave, "", flags)
        mount.move_mount(tree, "", place, "", mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH)
        os.close(tree)
        os.close(place)
    finally:
        os.close(dev)
