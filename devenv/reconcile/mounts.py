"""A service's `volumes`, `tmpfs`, `configs` and `secrets`, as mounts: what must exist is made, what can't be is said.

In the order of their targets, so that what lies in another comes after it. Every target counts once: what the
service says wins over a volume that the image declares.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.image import store as image_store
from devenv.linux import namespace
from devenv.reconcile import convert, desired, imagemounts, ownership, record, seeding
from devenv.runtime import bundle
from devenv.volume import bind, remote, tmpfs
from devenv.volume import volume as volume_module

if TYPE_CHECKING:
    from devenv.reconcile import containers as containers_

Entry = Mapping[str, Any]


@dataclasses.dataclass(slots=True)
class Mounts:
    """What a container gets mounted, and what `ps`, `down -v` and the next container need to know of it."""

    by: ownership.Who
    mounts: list[bundle.Mount] = dataclasses.field(default_factory=list)
    summary: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    volumes: list[str] = dataclasses.field(default_factory=list)
    anonymous: dict[str, str] = dataclasses.field(default_factory=dict)  # target -> volume
    files: dict[str, tuple[bytes, int, int, int]] = dataclasses.field(default_factory=dict)

    def add(
        self, mount: bundle.Mount, *, kind: str, name: str = "", read_only: bool = False, image_id: str = ""
    ) -> None:
        target = posixpath.normpath(mount.target)
        self.mounts = [other for other in self.mounts if posixpath.normpath(other.target) != target]
        self.mounts.append(mount)
        self.summary = [other for other in self.summary if other["target"] != target]
        said = {"type": kind, "name": name, "source": mount.source, "target": target, "read_only": read_only}
        self.summary.append({**said, "image_id": image_id} if image_id else said)

    def has(self, target: str) -> bool:
        return any(other["target"] == posixpath.normpath(target) for other in self.summary)


class Builder:
    """Makes the mounts of one service's containers."""

    def __init__(
        self,
        environment: desired.Environment,
        containers: containers_.Containers,
    ) -> None:
        self._environment = environment
        self._volumes = containers.volumes
        self._images = containers.images
        self._where = containers.where
        self._project = containers.project

    def build(
        self, service: convert.Service, image: image_store.Image, *, files: str, inherited: Mapping[str, str]
    ) -> Mounts:
        """``files``: where its configs and secrets are laid.

        ``inherited``: anonymous volumes, by target, of the container it replaces.
        """
        made = Mounts(ownership.who(service, image, self._environment.directory))
        for target in image.config.volumes:
            self._anonymous(made, {"target": target}, inherited)
        for reference in service.get("volumes_from") or []:
            self._from_other(made, service, reference)
        for entry in service.get("volumes") or []:
            self._entry(made, service, entry, inherited)
        for mount in convert.tmpfs_mounts(service):
            made.add(mount, kind="tmpfs")
        for kind in ("configs", "secrets"):
            for use in service.get(kind) or []:
                self._file(made, kind, use, files)
        made.mounts.sort(key=lambda mount: (posixpath.normpath(mount.target).count("/"), mount.target))
        return made

    def _entry(self, made: Mounts, service: convert.Service, entry: Entry, inherited: Mapping[str, str]) -> None:
        kind = entry.get("type") or "volume"
        if kind == "bind":
            self._bind(made, entry)
        elif kind == "volume" and entry.get("source"):
            self._named(made, entry)
        elif kind == "volume":
            self._anonymous(made, entry, inherited)
        elif kind == "tmpfs":
            given = entry.get("tmpfs") or {}
            options = tmpfs.from_compose(size=given.get("size"), mode=given.get("mode"))
            read_only = ("ro",) if entry.get("read_only") else ()
            mount = bundle.Mount(type="tmpfs", source="tmpfs", target=entry["target"], options=(*options, *read_only))
            made.add(mount, kind="tmpfs", read_only=bool(entry.get("read_only")))
        elif kind == "image":
            mount, image_id = imagemounts.mount(entry, service, self._images, base=self._environment.directory)
            made.add(mount, kind="image", name=entry["source"], read_only=True, image_id=image_id)
        else:
            raise errors.VolumeError(
                f"a volume of `type: {kind}` is not for this machine: it is for "
                + ("Windows" if kind == "npipe" else "a swarm"),
                hint="use `type: bind`, `type: volume`, `type: tmpfs` or `type: image`",
            )

    def _bind(self, made: Mounts, entry: Entry) -> None:
        options = entry.get("bind") or {}
        # compose-go leaves the default, true, out of the canonical form.
        create = options.get("create_host_path") is not False
        source = bind.resolve(entry["source"], base=self._environment.directory, create=create)
        flags = ["rbind" if options.get("recursive") != "disabled" else "bind"]
        flags.append(options.get("propagation") or "rprivate")
        if entry.get("read_only"):
            flags += ["ro"] if options.get("recursive") in {"writable", "disabled"} else ["ro", "rro"]
        whose = ownership.choose(entry, source, made.by)
        if whose.owner:
            flags.append(whose.option)
        mount = bundle.Mount("bind", source, entry["target"], tuple(flags), whose.owner)
        made.add(mount, kind="bind", read_only=bool(entry.get("read_only")))

    def _named(self, made: Mounts, entry: Entry) -> None:
        definition = self._environment.definitions("volumes")[entry["source"]]
        volume = self.ensure(definition)
        made.volumes.append(volume.name)
        self._volume(made, entry, volume)

    def ensure(self, definition: desired.Definition) -> volume_module.Volume:
        name = definition["name"]
        if definition.get("external"):
            found = self._volumes.get_external(name)
            if found is None:
                raise errors.VolumeError(
                    f"volume `{name}` is external and does not exist", hint="start the project that owns it first"
                )
            return found
        return self._volumes.ensure(
            name,
            driver=definition.get("driver") or "local",
            driver_opts=dict(definition.get("driver_opts") or {}),
            labels=dict(definition.get("labels") or {}),
            fill=seeding.fill(self._environment, name),
        )

    def _anonymous(self, made: Mounts, entry: Entry, inherited: Mapping[str, str]) -> None:
        target = posixpath.normpath(entry["target"])
        name = inherited.get(target) or made.anonymous.get(target)
        volume = self._volumes.get(name) if name else None
        if volume is None:
            volume = self._volumes.ensure_anonymous()
        made.anonymous[target] = volume.name
        self._volume(made, entry, volume)

    def _volume(self, made: Mounts, entry: Entry, volume: volume_module.Volume) -> None:
        options = entry.get("volume") or {}
        if volume.filesystem:
            self._filesystem(made, entry, volume)
            return
        source = volume.path
        if options.get("subpath"):
            source = bind.beneath(volume.path, options["subpath"])
        flags = ["rbind", "rprivate"]
        if entry.get("read_only"):
            flags += ["ro", "rro"]
        if not options.get("nocopy") and not options.get("subpath"):
            flags.append("copyup")
        mount = bundle.Mount(type="bind", source=source, target=entry["target"], options=tuple(flags))
        made.add(mount, kind="volume", name=volume.name, read_only=bool(entry.get("read_only")))

    def _filesystem(self, made: Mounts, entry: Entry, volume: volume_module.Volume) -> None:
        if (entry.get("volume") or {}).get("subpath"):
            raise errors.VolumeError(
                f"volume `{volume.name}` is of type {volume.filesystem}: `subpath` is for volumes that are folders"
            )
        given = volume.options
        if volume.filesystem != "tmpfs" and not namespace.in_initial_user_namespace():
            raise errors.VolumeError(
                f"volume `{volume.name}`: only root can mount a filesystem of type {volume.filesystem}",
                hint="mount it as root, and write type: none, o: bind, device: DIR",
            )
        if volume.filesystem == "tmpfs":
            given = tmpfs.options(",".join(given), defaults=())
        read_only = ("ro",) if entry.get("read_only") else ()
        device = volume.driver_opts["device"]
        mount = bundle.Mount(volume.filesystem, device, entry["target"], (*remote.resolved(given), *read_only))
        made.add(mount, kind="volume", name=volume.name, read_only=bool(read_only))

    def _from_other(self, made: Mounts, service: convert.Service, reference: str) -> None:
        """`volumes_from: [other:ro]`, or `container:NAME:ro` for one of any project's: all that it has, in place."""
        is_container = reference.startswith("container:")
        name, _, mode = reference.removeprefix("container:").partition(":")
        read_only = mode == "ro"
        if is_container:
            for mount in self._of_container(name).mounts:
                self._again(made, service, mount, read_only=read_only)
            return
        other = self._environment.services.get(name)
        if other is None:
            raise errors.VolumeError(f"`volumes_from: {reference}` names no service of this project")
        # What nobody named is known by the container alone, which is there: it is a dependency.
        family = [each for each in record.load_all(self._where, self._project.id) if each.service == name]
        for each in [each for each in family if not each.oneoff][:1]:
            for mount in each.mounts:
                if mount["type"] == "volume" and mount["name"] in each.anonymous_volumes:
                    self._again(made, service, mount, read_only=read_only)
        for entry in other.get("volumes") or []:
            if entry.get("type") == "volume" and not entry.get("source"):
                continue
            self._entry(made, service, {**entry, "read_only": entry.get("read_only") or read_only}, {})

    def _of_container(self, name: str) -> record.Record:
        found = next((each for each in record.load_all(self._where) if name in {each.name, each.id}), None)
        if found is None:
            raise errors.VolumeError(
                f"`volumes_from: container:{name}` names no container", hint="`devenv container ls -a` lists them"
            )
        return found

    def _again(self, made: Mounts, service: convert.Service, mount: Entry, *, read_only: bool) -> None:
        """What a container has mounted; a tmpfs is its own, and so are configs and secrets."""
        entry = {"source": mount["source"], "target": mount["target"], "read_only": mount["read_only"] or read_only}
        if mount["type"] == "image":
            self._entry(made, service, {**entry, "type": "image", "source": mount["name"]}, {})
        elif mount["type"] == "bind" and not str(mount["source"]).startswith(f"{self._where.run}/files/"):
            self._bind(made, {**entry, "bind": {"create_host_path": False}})
        elif mount["type"] == "volume":
            if not os.path.isdir(mount["source"]):
                raise errors.VolumeError(
                    f"volume `{mount['name']}` is a filesystem that each container mounts: name it in `volumes:`"
                )
            flags = ("rbind", "rprivate", *(("ro", "rro") if entry["read_only"] else ()))
            again = bundle.Mount("bind", mount["source"], mount["target"], flags)
            made.add(again, kind="volume", name=mount["name"], read_only=bool(entry["read_only"]))

    def _file(self, made: Mounts, kind: str, use: Entry, files: str) -> None:
        source = use["source"]
        definition = self._environment.definitions(kind)[source]
        default = f"/run/secrets/{source}" if kind == "secrets" else f"/{source}"
        target = use.get("target") or default
        if not target.startswith("/"):
            target = f"/run/secrets/{target}" if kind == "secrets" else f"/{target}"
        content = desired.content(self._environment, kind, source)
        path = ""
        if content is None:
            path = bind.resolve(definition["file"], base=self._environment.directory, create=False)
            if any(use.get(key) is not None for key in ("uid", "gid", "mode")) and os.path.isfile(path):
                # A file of the person's keeps its owner: what is to have another is a copy.
                content, path = _read(path), ""
        if content is not None:
            name = f"{kind}.{len(made.files)}"
            mode = int(str(use.get("mode") or "0444"), 8)
            made.files[name] = (content, mode, int(use.get("uid") or 0), int(use.get("gid") or 0))
            path = f"{files}/{name}"
        made.add(
            bundle.Mount(type="bind", source=path, target=target, options=("bind", "ro", "rprivate")),
            kind="bind",
            read_only=True,
        )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise errors.VolumeError(f"`{path}` can't be read: {exc.strerror}") from exc
