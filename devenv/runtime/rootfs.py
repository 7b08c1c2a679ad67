"""A container's root filesystem: first data, a list of mounts, then mounts, all inside its own mount namespace.

Every target is looked up by openat2(2) beneath the new root and mounted by its descriptor, so no symbolic link of an
image, and none that another container swaps in meanwhile, leads a mount out (CVE-2021-30465 and its kin). Binds are
taken off the host as detached trees by open_tree(2), given their attributes before they are attached, then moved in.

With a user namespace of the container's own these trees are made before it is entered (``Sources``): its root may
neither reach the host's folders nor map their ids.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devenv.linux import mount, namespace, openat2, statfs
from devenv.runtime import copyup, devices, fuseoverlay, idmap, imagemount, labels, mountoptions, staging, user
from devenv.runtime import overlay as overlay_
from devenv.runtime.failure import Failure, doing

# Where the runtime itself looks for the kernel: a volume there would answer in its place (CVE-2019-19921). What lxcfs
# and its like put over single files is no danger.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid "
    "sys/crypto/fips_enabled".split()
)

__all__ = ["Builder", "Failure", "Sources", "console", "doing", "enter", "enter_by_chroot"]


class Sources:
    """What is taken off the host: detached trees, each made when it is needed or, by ``prepare``, beforehand."""

    def __init__(self, config: dict[str, Any], folder: str, *, space: int = -1) -> None:
        """``space``: the user namespace that the container will be in, if it is there already."""
        self._config = config
        self._space = space
        self._folder = folder
        self._trees: dict[int, int] = {}
        self._root = -1
        self.overlays: list[int] = []
        self.nodes: dict[str, int] = {}
        self.fused: dict[str, fuseoverlay.Device] = {}  # by target, where the kernel can't mount an overlay
        self.path = os.path.join(folder, config["root"]["path"])
        # Mapping ids takes a process, found by its pid in the host's /proc: that has to be done before its pid there
        # is another than ours.
        self.mapped = any(
            mountoptions.parse(entry.get("options") or []).idmap or entry.get("uidMappings")
            for entry in config.get("mounts") or []
        )

    def mount_disks(self) -> None:
        """What only the host reaches: servers by its network, disks outside the device rules of the cgroup."""
        for number, entry in enumerate(self._config.get("mounts") or []):
            if not mountoptions.is_bind(entry) and (
                entry.get("type") in _NETWORKED or str(entry.get("source")).startswith("/dev/")
            ):
                with doing(f"mounting `{entry['source']}` ({entry['type']}) for `{entry['destination']}`"):
                    self._trees[number] = beforehand(entry)

    def prepare(self, overlays: Sequence[Mapping[str, Any]] = ()) -> None:
        """Afterwards the caller may be in another mount namespace, with ``overlays``."""
        if not overlays:
            self._root = self.root()
        for number, entry in enumerate(self._config.get("mounts") or []):
            if mountoptions.is_bind(entry):
                with doing(f"taking `{entry.get('source')}` for `{entry['destination']}`"):
                    self._trees[number] = self._tree(entry)
        if overlays:
            linux = self._config["linux"]
            images = {
                number: entry
                for number, entry in enumerate(self._config.get("mounts") or [])
                if imagemount.is_one(entry)
            }
            self.overlays, self.nodes, beside = staging.take(
                overlays,
                linux.get("devices") or [],
                images,
                folder=self.path,
                space=self._space,
                root=idmap.root(linux.get("uidMappings") or [], linux.get("gidMappings") or []),
            )
            self._trees |= beside
            return
        linux = self._config.get("linux") or {}
        if any(each["type"] == "user" and not each.get("path") for each in linux.get("namespaces") or []):
            with doing("making the container's devices"):
                self.nodes = devices.made_beforehand(linux)

    def root(self) -> int:
        if self._root >= 0:
            return self._root
        with doing(f"taking the root `{self.path}`"):
            if not os.path.isdir(self.path):
                raise OSError(errno.ENOTDIR, "it is not a folder")
            return mount.open_tree(
                mount.AT_FDCWD, self.path, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_RECURSIVE
            )

    def has(self, number: int) -> bool:
        return number in self._trees

    def bind(self, number: int, entry: dict[str, Any]) -> int:
        return self._trees[number] if number in self._trees else self._tree(entry)

    def image(self, number: int, entry: dict[str, Any], *, in_user_namespace: bool) -> int:
        if number in self._trees:
            return self._trees[number]
        return imagemount.tree(entry, self.path, entry[imagemount.LAYERS], in_user_namespace=in_user_namespace)

    def _tree(self, entry: dict[str, Any]) -> int:
        options = mountoptions.parse(entry.get("options") or [])
        if options.copyup and options.idmap:
            options = options.writable()
        tree = detached(os.path.join(self._folder, entry["source"]), options)
        if options.idmap or entry.get("uidMappings"):
            self._map(tree, entry, options)
        return tree

    def _map(self, tree: int, entry: dict[str, Any], options: mountoptions.Options) -> None:
        linux = self._config.get("linux") or {}
        uids = entry.get("uidMappings") or linux.get("uidMappings")
        gids = entry.get("gidMappings") or linux.get("gidMappings")
        if not uids or not gids:
            raise OSError(errno.EINVAL, "an idmapped mount needs mappings: its own, or a user namespace's")
        own = self._space if not entry.get("uidMappings") else -1
        space = idmap.user_namespace(uids, gids) if own < 0 else own
        try:
            idmap.apply(tree, space, source=entry["source"], recursive=options.idmap == "ridmap")
        finally:
            if own < 0:
                os.close(space)


_NETWORKED = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p"})


def beforehand(entry: Mapping[str, Any]) -> int:
    """A mount that stands nowhere yet."""
    options = mountoptions.parse(entry.get("options") or [])
    context = mount.fsopen(entry["type"])
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", entry.get("source") or "none")
        if options.readonly:
            mount.fsconfig(context, mount.FSCONFIG_SET_FLAG, "ro")
        for option in filter(None, options.data.split(",")):
            name, equals, value = option.partition("=")
            kind = mount.FSCONFIG_SET_STRING if equals else mount.FSCONFIG_SET_FLAG
            mount.fsconfig(context, kind, name, value if equals else None)
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        return mount.fsmount(context, options.attributes)
    finally:
        os.close(context)


def detached(source: str, options: mountoptions.Options) -> int:
    """A copy of the mount at ``source`` that stands nowhere yet, with its attributes."""
    everything = mount.AT_RECURSIVE if options.recursive else 0
    tree = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | everything)
    try:
        if options.changes:
            _set_attributes(tree, 0, options.attributes, options.cleared)
        if options.changes_all:
            _set_attributes(tree, mount.AT_RECURSIVE, options.all_attributes, options.all_cleared)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _set_attributes(tree: int, flags: int, added: int, cleared: int) -> None:
    flags |= mount.AT_EMPTY_PATH
    try:
        mount.mount_setattr(tree, "", flags, attr_set=added, attr_clr=cleared)
    except PermissionError:
        # What a user namespace was given with locked flags keeps them; `rw` and its like only ask for the usual.
        if cleared & ~mount.MOUNT_ATTR__ATIME == 0:
            raise
        mount.mount_setattr(tree, "", flags, attr_set=added, attr_clr=cleared & mount.MOUNT_ATTR__ATIME)


class Builder:
    """Mounts one container's root. Used in its first process, before it is let go."""

    def __init__(
        self,
        config: dict[str, Any],
        layout: dict[str, Any],
        sources: Sources,
        *,
        user_of: Callable[[int], user.User] | None = None,
    ) -> None:
        """``user_of`` says, by a descriptor of the root, who the first process will be."""
        self._config = config
        self._user_of = user_of
        self._linux = config.get("linux") or {}
        self._layout = layout
        self._sources = sources
        kinds = {each["type"] for each in self._linux.get("namespaces") or []}
        # One that maps every id onto itself looks like the initial one from inside.
        self._user_namespace = "user" in kinds or not namespace.in_initial_user_namespace()
        self._readonly_later: list[str] = []
        self.root = -1
        self._trees: list[int] = []  # what the root is made of beside itself
        # Ours, not the image's, to mask files with (CVE-2025-31133).
        self._null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        if os.fstat(self._null).st_rdev != os.makedev(1, 3):
            raise Failure(errno.ENODEV, "it is not the null device", "masking files with `/dev/null`")
        self._nothing = -1  # and to mask folders with

    def build(self, cwd: str) -> None:
        """Raises ``Failure``. Afterwards ``root`` is a descriptor of the whole root, still writable everywhere.

        ``cwd`` is made if it is missing, now that the root may still be written to.
        """
        self.mount_image()
        own_dev = True
        for number, entry in enumerate(self._config.get("mounts") or []):
            target = os.path.normpath("/" + entry["destination"].lstrip("/"))
            with doing(f"mounting `{entry.get('source') or entry.get('type')}` on `{target}`"):
                self._mount(number, entry, target)
            if target == "/dev" and mountoptions.is_bind(entry):
                own_dev = False
        with doing(f"making the working directory `{cwd}`"), contextlib.suppress(NotADirectoryError, PermissionError):
            os.close(self._folder(os.path.normpath("/" + cwd.lstrip("/"))))
        if own_dev:
            self._devices()

    def protect(self) -> None:
        """Hide and make read-only what is to be so; after everything that is written there for the container."""
        for path in dict.fromkeys(self._linux.get("maskedPaths") or []):
            with doing(f"masking `{path}`"):
                self._mask(path)
        for path in self._linux.get("readonlyPaths") or []:
            with doing(f"making `{path}` read-only"):
                self._make_readonly(path)
        if self._config["root"].get("readonly"):
            for tree in self._trees:
                mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
        for target in self._readonly_later:
            with doing(f"making `{target}` read-only"):
                place = openat2.in_root(self.root, target, os.O_PATH)
                mount.mount_setattr(place, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
                os.close(place)

    def close(self) -> None:
        for descriptor in (self.root, self._null, self._nothing, *self._trees):
            if descriptor >= 0:
                os.close(descriptor)

    # -- the root ----------------------------------------------------------------------------------------------

    def mount_image(self) -> None:
        """The root alone, with nothing of the system's in it. ``build`` does it by itself."""
        overlays = self._layout.get("overlays") or []
        path = self._sources.path
        if not overlays:
            self.root = self._sources.root()
            with doing(f"mounting the root `{path}`"):
                self._attach_root(path)
            return
        if self._sources.overlays:
            self._attach_staged(overlays, path)
            overlays = []
        for number, overlay in enumerate(overlays):
            with doing(f"mounting the image on `{overlay['target']}`"):
                if number == 0:
                    self._overlay(overlay, path)
                    self.root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                else:
                    target = self._folder(overlay["target"])
                    self._overlay(overlay, f"/proc/self/fd/{target}")
                    os.close(target)
                    self._trees.append(self._folder(overlay["target"]))
        for source, target in self._layout.get("binds") or []:
            with doing(f"mounting `{source}` on `{target}`"):
                self._bind_host(source, target, ["rbind", "rro"])

    def _attach_root(self, path: str) -> None:
        try:
            # Onto itself, where hooks look for it.
            mount.move_mount(self.root, "", mount.AT_FDCWD, path, mount.MOVE_MOUNT_F_EMPTY_PATH)
        except PermissionError:
            # A user namespace's root may not reach it: then on top of the host's root, which stays visible
            # to us, for a process' own root is not looked up.
            mount.move_mount(self.root, "", mount.AT_FDCWD, "/", mount.MOVE_MOUNT_F_EMPTY_PATH)
        _propagate(self.root, mount.MS_PRIVATE)

    def _attach_staged(self, overlays: Sequence[Mapping[str, Any]], path: str) -> None:
        self.root, *others = self._sources.overlays
        with doing("mounting the image on `/`"):
            self._attach_root(path)
        for overlay, tree in zip(overlays[1:], others, strict=True):
            with doing(f"mounting the image on `{overlay['target']}`"):
                target = self._folder(overlay["target"])
                _attach(tree, target)
                os.close(target)
                self._trees.append(tree)

    def _overlay(self, overlay: dict[str, Any], target: str) -> None:
        if overlay["target"] in self._sources.fused:
            fuseoverlay.attach(self._sources.fused[overlay["target"]], target)
            return
        overlay_.mounted(overlay, target, in_user_namespace=self._user_namespace)

    # -- mounts ------------------------------------------------------------------------------------------------

    def _mount(self, number: int, entry: dict[str, Any], target: str) -> None:
        options = mountoptions.parse(entry.get("options") or [])
        kind = entry.get("type") or ""
        if target == "/" or kind != "proc":
            _refuse_proc(entry, target)
        if mountoptions.is_bind(entry):
            if options.flags & mount.MS_REMOUNT:
                self._remount(target, options, mount.MS_BIND)
            else:
                self._bind(self._sources.bind(number, entry), target, options, source=entry.get("source") or "")
            return
        if imagemount.is_one(entry):
            tree = self._sources.image(number, entry, in_user_namespace=self._user_namespace)
            self._bind(tree, target, options, source="image")
            return
        if not kind or kind == "none":
            raise OSError(errno.EINVAL, "a mount needs a type, or the option `bind`")
        if options.idmap:
            raise OSError(errno.EINVAL, "only binds can be idmapped")
        if options.flags & mount.MS_REMOUNT:
            self._remount(target, options, 0)
        elif kind == "cgroup":
            self._cgroup(target, options)
        elif self._sources.has(number):
            place = self._folder(target)
            _attach(self._sources.bind(number, entry), place)
            os.close(place)
        else:
            self._or_the_hosts(kind, target, options, source=entry.get("source") or kind)

    def _or_the_hosts(self, kind: str, target: str, options: mountoptions.Options, *, source: str) -> None:
        """These show a namespace; who doesn't own that may not mount them, and is shown the host's own."""
        host = {"proc": "/proc", "sysfs": "/sys", "mqueue": "/dev/mqueue"}.get(kind)
        try:
            self._filesystem(kind, target, options, source=source)
        except PermissionError:
            if host is None:
                raise
            if kind == "mqueue" and not os.path.isdir(host):
                return  # mq_open(2) needs no mount
            self._bind_host(host, target, ["rbind", *(["ro", "rro"] if kind == "sysfs" else [])])

    def _remount(self, target: str, options: mountoptions.Options, extra: int) -> None:
        place = openat2.in_root(self.root, target, os.O_PATH)
        try:
            mount.mount("none", f"/proc/self/fd/{place}", "", options.flags | extra, options.data)
        finally:
            os.close(place)

    def _filesystem(self, kind: str, target: str, options: mountoptions.Options, *, source: str) -> None:
        data, flags = options.data, options.flags
        if kind == "devpts" and self._user_namespace:
            # Group 5 may not be mapped.
            data = ",".join(part for part in data.split(",") if not part.startswith("gid=")) if not _mapped(5) else data
        # There already, or made for it: only then does tmpfs take over its mode.
        before = self._existing(target)
        below = self._folder(target, unlinked=kind in {"proc", "sysfs"})
        if kind == "tmpfs":
            if before is not None and "mode=" not in data:
                data = ",".join(part for part in (data, f"mode={before:o}") if part)
            if flags & mount.MS_RDONLY:
                flags &= ~mount.MS_RDONLY
                self._readonly_later.append(target)
        data = labels.mount_data(kind, data, self._linux.get("mountLabel"))
        try:
            mount.mount(source, f"/proc/self/fd/{below}", kind, flags, data)
            if options.copyup:
                above = self._reopen(target)
                copyup.fill(f"/proc/self/fd/{above}", below)
                os.close(above)
        finally:
            os.close(below)
        if options.propagation or options.changes_all:
            place = self._reopen(target)
            if options.changes_all:
                _set_attributes(place, mount.AT_RECURSIVE, options.all_attributes, options.all_cleared)
            _propagate(place, *options.propagation)
            os.close(place)

    def _existing(self, target: str) -> int | None:
        try:
            found = openat2.in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            return stat.S_IMODE(os.fstat(found).st_mode)
        finally:
            os.close(found)

    def _reopen(self, target: str) -> int:
        """The topmost mount at ``target``, not what lies beneath."""
        return openat2.in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)

    def _cgroup(self, target: str, options: mountoptions.Options) -> None:
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            try:
                self._filesystem("cgroup2", target, options, source="cgroup")
            except PermissionError:
                for folder in (self._layout.get("cgroups") or {}).values():
                    self._bind_host(folder, target, ["bind", *(["ro"] if options.flags & mount.MS_RDONLY else [])])
            return
        bare = options._replace(flags=options.flags & ~mount.MS_RDONLY, data="mode=755")
        self._filesystem("tmpfs", target, bare, source="cgroup")
        words = [word for word in ("ro", "nosuid", "nodev", "noexec") if options.flags & _MS[word]]
        for name, folder in sorted((self._layout.get("cgroups") or {}).items()):
            self._bind_host(folder, f"{target}/{name}", ["bind", *words])
            for link in name.split(",") if "," in name else ():
                place = self._reopen(target)
                os.symlink(name, link, dir_fd=place)
                os.close(place)
        if options.flags & mount.MS_RDONLY:
            self._readonly_later.append(target)

    def _bind_host(self, source: str, target: str, words: list[str]) -> None:
        options = mountoptions.parse(words)
        self._bind(detached(source, options), target, options, source=source)

    def _bind(self, tree: int, target: str, options: mountoptions.Options, *, source: str) -> None:
        try:
            is_folder = stat.S_ISDIR(os.fstat(tree).st_mode)
            fresh = options.copyup and is_folder and self._existing(target) is None
            place = self._place(target, is_folder=is_folder)
            try:
                if fresh:
                    self._give(place)
                if options.copyup and is_folder:
                    # By way of a tree with other ids if it has some: it was left writable for that.
                    copyup.fill(f"/proc/self/fd/{tree}" if options.idmap else source, place)
                    if options.idmap and options.readonly:
                        self._readonly_later.append(target)
                _attach(tree, place)
            finally:
                os.close(place)
            # What is not asked for is private: nothing of the host's comes in later (mount_namespaces(7)).
            _propagate(tree, *(options.propagation or (mount.MS_PRIVATE | mount.MS_REC,)))
        finally:
            os.close(tree)

    def _give(self, place: int) -> None:
        """To who uses it: a volume of root's, for which the image has nothing, would be of use to nobody."""
        if self._user_of is not None:
            who = self._user_of(self.root)
            with contextlib.suppress(OSError):  # not every user namespace has it
                os.chown(f"/proc/self/fd/{place}", who.uid, who.gid)

    def adopt(self, tree: int, target: str) -> None:
        """Attach a detached tree that somebody else cloned, and close it."""
        with doing(f"mounting `{target}`"):
            place = self._folder(target)
            _attach(tree, place)
            os.close(place)
            os.close(tree)

    # -- places in the root ------------------------------------------------------------------------------------

    def _place(self, target: str, *, is_folder: bool) -> int:
        """A descriptor of ``target``, made if need be."""
        if is_folder:
            return self._folder(target)
        try:
            return openat2.in_root(self.root, target, os.O_PATH)
        except FileNotFoundError:
            parent = self._folder(os.path.dirname(target))
        try:
            made = os.open(
                os.path.basename(target), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent
            )
            os.close(made)
        except FileExistsError:
            return self._place(self._link(target), is_folder=False)
        finally:
            os.close(parent)
        return openat2.in_root(self.root, target, os.O_PATH)

    def _folder(self, target: str, *, unlinked: bool = False, depth: int = 0) -> int:
        """A descriptor of the folder, with all that is missing of its path made: each step beneath the root."""
        if unlinked and target in {"/proc", "/sys", "/dev"}:
            # As a link it would lead every later write to it astray (CVE-2019-19921, CVE-2026-41579).
            name = target[1:]
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755 if name == "dev" else 0o555, dir_fd=self.root)
            try:
                return openat2.openat2(
                    self.root,
                    name,
                    os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC,
                    resolve=openat2.RESOLVE_IN_ROOT | openat2.RESOLVE_NO_SYMLINKS,
                )
            except OSError as exc:
                raise OSError(exc.errno, f"{target} must be mounted on ordinary directory") from exc
        try:
            return openat2.in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            parent = self._folder(os.path.dirname(target.rstrip("/")) or "/", depth=depth)
        try:
            os.mkdir(os.path.basename(target.rstrip("/")), 0o755, dir_fd=parent)
        except FileExistsError:
            if depth >= 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            return self._folder(self._link(target), depth=depth + 1)
        finally:
            os.close(parent)
        return openat2.in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)

    def _link(self, target: str) -> str:
        """Where a link that leads nowhere inside the root leads to: that is what has to be made."""
        parent = self._folder(os.path.dirname(target.rstrip("/")) or "/")
        try:
            leads = os.readlink(os.path.basename(target.rstrip("/")), dir_fd=parent)
        except OSError as exc:
            raise OSError(errno.ENOTDIR, "something else is in its place") from exc
        finally:
            os.close(parent)
        return os.path.normpath(os.path.join(os.path.dirname(target.rstrip("/")) or "/", leads))

    # -- devices -----------------------------------------------------------------------------------------------

    def _devices(self) -> None:
        bound = self._user_namespace
        with doing("making the devices in `/dev`"):
            folder = self._folder("/dev", unlinked=True)
            try:
                devices.fill(folder, bound=bound, trees=self._sources.nodes)
                if (self._config.get("process") or {}).get("terminal"):
                    # What the terminal is mounted on; /dev may be read-only by then.
                    flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open("console", flags, 0o600, dir_fd=folder))
            finally:
                os.close(folder)
        for entry in self._linux.get("devices") or []:
            source = entry.get("x-devenv-source") or entry["path"]
            if os.path.normpath(entry["path"]) == "/dev/ptmx":
                continue  # the container's own devpts has it; podman lists it all the same for who has every right
            with doing(f"adding the device `{source}`"):
                mode, number, owner = devices.described(entry)
                path = os.path.normpath("/" + entry["path"].lstrip("/"))
                folder = self._folder(os.path.dirname(path))
                name = os.path.basename(path)
                try:
                    if path in self._sources.nodes:
                        devices.bind(folder, name, self._sources.nodes[path])
                    else:
                        devices.make(folder, name, mode=mode, device=number, source=source, bound=bound, owner=owner)
                except FileExistsError:
                    if path not in _DEFAULT_PATHS and not devices.same(folder, name, mode, number):
                        raise
                finally:
                    os.close(folder)

    # -- what is hidden ----------------------------------------------------------------------------------------

    def _mask(self, path: str) -> None:
        try:
            place = openat2.in_root(self.root, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return  # this kernel doesn't have it
        try:
            folder = stat.S_ISDIR(os.fstat(place).st_mode)
            if folder and self._nothing < 0:
                mount.mount("tmpfs", f"/proc/self/fd/{place}", "tmpfs", mount.MS_RDONLY, "size=0k,mode=555")
                self._nothing = self._reopen(path)
            else:
                # One filesystem for all of them: each would cost the kernel as much as a file.
                flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
                tree = mount.open_tree(self._nothing if folder else self._null, "", flags)
                _attach(tree, place)
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
            _attach(tree, place)
            os.close(tree)
        finally:
            os.close(place)


_MS = {"ro": mount.MS_RDONLY, "nosuid": mount.MS_NOSUID, "nodev": mount.MS_NODEV, "noexec": mount.MS_NOEXEC}
_DEFAULT_PATHS = frozenset(f"/dev/{name}" for name in ("ptmx", *(name for _, _, name in devices.DEFAULT)))


def _refuse_proc(entry: dict[str, Any], target: str) -> None:
    """Nothing but the kernel's own may stand where the runtime and the container look for it."""
    if target == "/":
        raise OSError(errno.EINVAL, "nothing can take the place of the root")
    if target != "/proc" and not target.startswith("/proc/"):
        return
    if target in _PROC_FILES:
        return
    if target == "/proc" and mountoptions.is_bind(entry) and _is_procfs(entry.get("source") or ""):
        return
    raise OSError(errno.EINVAL, f"`{target}` can't be mounted because it is inside /proc")


def _is_procfs(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return statfs.f_type(descriptor) == statfs.PROC_SUPER_MAGIC
    finally:
        os.close(descriptor)


def _mapped(gid: int) -> bool:
    with open("/proc/self/gid_map") as file:
        for line in file:
            inside, _, size = (int(field) for field in line.split())
            if inside <= gid < inside + size:
                return True
    return False


def _attach(tree: int, place: int) -> None:
    flags = mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH
    mount.move_mount(tree, "", place, "", flags)


def _propagate(place: int, *kinds: int) -> None:
    for kind in kinds:
        mount.mount("none", f"/proc/self/fd/{place}", "", kind)


def enter(root: int, *, readonly: bool, propagation: int) -> None:
    """pivot_root(2) into ``root`` and let go of the old one; the container can't reach it any more."""
    os.fchdir(root)
    # Onto itself: the old root is stacked on the new one and detached, with no folder to make for it.
    mount.pivot_root(".", ".")
    # It may be shared with the host, which must not lose what we let go of.
    mount.mount("none", ".", "", mount.MS_SLAVE | mount.MS_REC)
    mount.umount2(".", mount.MNT_DETACH)
    os.chdir("/")
    _finish(readonly=readonly, propagation=propagation)


def enter_by_chroot(root: int, *, readonly: bool, propagation: int) -> None:
    """Without pivot_root(2), which can't leave a ramdisk (`--no-pivot`). The host's proc and sysfs would be within
    reach of whoever may mount, so they are taken away first."""
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file if line.partition(" - ")[2].split()[0] in {"proc", "sysfs"}]
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for point in reversed(points):
        with contextlib.suppress(OSError):
            mount.umount2(point.encode().decode("unicode_escape"), mount.MNT_DETACH)
    os.close(fd)
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    _finish(readonly=readonly, propagation=propagation)


def _finish(*, readonly: bool, propagation: int) -> None:
    if propagation:
        mount.mount("none", "/", "", propagation)
    if readonly:
        mount.mount_setattr(mount.AT_FDCWD, "/", 0, attr_set=mount.MOUNT_ATTR_RDONLY)


def console(root: int, slave: int) -> None:
    """The terminal's container end on /dev/console, where programs look for it."""
    dev = openat2.in_root(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        try:
            os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=dev))
        except FileExistsError:
            pass
        place = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
        tree = mount.open_tree(slave, "", flags)
        mount.move_mount(tree, "", place, "", mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH)
        os.close(tree)
        os.close(place)
    finally:
        os.close(dev)
