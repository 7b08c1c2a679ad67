"""The life of one container, across the mechanisms: its folder, its process, its network, its ports, its volumes.

Every function here may block, so the loop calls them in worker threads; none decides anything. What each leaves
behind when it is killed half-way is something the next look understands:

    prepare   containers/.new-<project>-<id> is filled, then renamed to <id>: a folder is whole or no container
    launch    the monitor makes the process, which waits; the network is attached; the process is let go
    discard   containers/<id> is renamed to .old-<project>-<id> first: half a removal is no container either
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from devenv import errors
from devenv.image import store as image_store
from devenv.network import hosts, manager, resolv, types
from devenv.reconcile import convert_network, naming, record, snapshots
from devenv.runtime import bundle, cgroup, monitor_client, quota, resources, state
from devenv.util import fs, identity, paths, tree
from devenv.volume import snapshot as snapshot_module
from devenv.volume import volume as volume_module

# Each container's own, mounted below /etc.
_FILES = ("hosts", "hostname", "resolv.conf")


class Containers:
    """One project's mechanisms, opened when they are first needed."""

    def __init__(self, project: identity.Project, where: paths.Paths, *, respawn: Sequence[str]) -> None:
        self.project = project
        self.where = where
        self.images = image_store.ImageStore(where)
        self.volumes = volume_module.VolumeStore(where, project.id)
        self.snapshots = snapshot_module.SnapshotStore(where, project.id)
        self.networks = manager.NetworkManager(paths=where, project_id=project.id, project_name=project.name)
        self._respawn = list(respawn)
        self._monitor: monitor_client.Monitor | None = None
        self._escrow: monitor_client.Escrow = {}
        self._lock = threading.Lock()

    # -- the processes that outlive us ---------------------------------------------------------------------------

    @property
    def monitor(self) -> monitor_client.Monitor:
        """The project's monitor, started if need be."""
        with self._lock:
            if self._monitor is None:
                escrow, self._escrow = self._escrow, {}
                self._monitor = monitor_client.ensure(self.where, self.project.id, self._respawn, escrow=escrow)
            return self._monitor

    def lost_monitor(self) -> None:
        """The next one gets what the last one left with us: pidfds, pipes and terminals."""
        with self._lock:
            if self._monitor is not None:
                self._escrow = self._monitor.take_escrow()
                self._monitor.close()
            self._monitor = None

    # -- making ------------------------------------------------------------------------------------------------

    def prepare(
        self, made: record.Record, options: bundle.Options, *, files: Mapping[str, tuple[bytes, int, int, int]]
    ) -> None:
        """Write the container's folder. ``files`` are its configs and secrets: name -> content, mode, uid, gid."""
        final = self.where.container(made.id)
        stage = self._hidden("new", made.id)
        os.makedirs(f"{stage}/logs", mode=0o700)
        try:
            for overlay in options.rootfs.overlays:
                _make_layer(overlay, f"{stage}/{os.path.relpath(overlay.upper, final)}")
                os.mkdir(f"{stage}/{os.path.relpath(overlay.work, final)}", 0o700)
            if files:
                _lay(self.where.container_files(made.id), files)
            for name in _FILES:
                with open(f"{stage}/{name}", "w") as file:
                    if name == "hostname":
                        file.write(f"{options.hostname}\n")
                os.chmod(f"{stage}/{name}", 0o644)
            fs.write_json(f"{stage}/config.json", bundle.build(options))
            fs.write_json(f"{stage}/container.json", made.to_json())
            os.rename(stage, final)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            shutil.rmtree(self.where.container_files(made.id), ignore_errors=True)
            raise

    def update(self, made: record.Record, limits: resources.Resources, *, pid: int | None) -> None:
        """Other limits. The record comes last: who is killed on the way does it again. ``pid``: while it runs."""
        path = f"{self.where.container(made.id)}/config.json"
        config = fs.read_json(path)
        before = config["linux"]["resources"]
        after = resources.to_oci(limits)
        if pid is not None:
            cgroup.change(config["linux"]["cgroupsPath"], before, after)
        # Which devices it may use is told there, too.
        kept = {name: value for name, value in before.items() if name not in resources.KINDS}
        config["linux"]["resources"] = kept | after
        fs.write_json(path, config)
        record.save(self.where, made)

    def create(self, made: record.Record, *, shares: Mapping[str, str], restarts: int) -> int:
        """Make the container's process, which waits; returns its pid. Raises what the runtime says.

        ``shares``: kind of namespace -> id of the container whose one this container joins.
        """
        self._write_resolver(made)
        self._check_files(made)
        snapshots.mount_volumes(self.where, made)
        self._confine(made)
        if shares:
            self._join(made, shares)
        left = state.load(self.where.container(made.id))
        if left is not None and left.status == "created":
            # A killed supervisor left it waiting, nobody knows how far connected.
            self.monitor.delete(made.id, force=True)
        return self.monitor.create(made.id, restarts=restarts)

    def _confine(self, made: record.Record) -> None:
        """At each start, since a restored snapshot is another folder in the place of the one that was limited."""
        if made.storage_size:
            quota.confine(snapshots.writable(self.where, made), made.storage_size, f"{self.where.data}/quota.lock")

    def _check_files(self, made: record.Record) -> None:
        if lost_files(self.where, made):
            raise errors.ContainerError(
                f"the configs and secrets of `{made.name}` were in memory, and the machine was restarted since",
                hint=f"`devenv up -d {made.service}` makes its container anew, with all its volumes",
            )

    def start(self, made: record.Record) -> None:
        """Let the process go."""
        self.monitor.start(made.id)

    def abort(self, made: record.Record) -> None:
        """Leave no process of a container that could not be started."""
        with contextlib.suppress(errors.DevenvError):
            self.monitor.delete(made.id, force=True)

    def attach(self, made: record.Record, pid: int) -> naming.Wiring:
        """Wire the process's network namespace; wired already is fine."""
        if made.network_mode == "none":
            self.networks.loopback(pid)
        if not made.networks:
            return naming.NOWHERE
        self.networks.attach(made.id, pid, convert_network.endpoint_specs(made.networks))
        return self.wiring(made, pid)

    def wiring(self, made: record.Record, pid: int) -> naming.Wiring:
        if not made.networks:
            return naming.NOWHERE
        endpoints = self.networks.endpoints(made.id, convert_network.endpoint_specs(made.networks))
        asked = any(hosts.HOST_GATEWAY in addresses for addresses in made.extra_hosts.values())
        return naming.Wiring(
            {item.network: tuple(filter(None, (item.ipv4, item.ipv6))) for item in endpoints},
            gateway=self.networks.gateway(made.networks, asked=asked),
            outward=self.networks.leads_outside(made.networks),
            start_time=identity.process_start_time(pid) or 0,
        )

    def write_hosts(self, made: record.Record, wiring: naming.Wiring) -> None:
        hosts.write(f"{self.where.container(made.id)}/hosts", hosts.render(naming.host(made, wiring)))

    def _join(self, made: record.Record, shares: Mapping[str, str]) -> None:
        """The namespaces of `service:x` are known only once x runs, so the bundle is finished here."""
        path = f"{self.where.container(made.id)}/config.json"
        config = fs.read_json(path)
        for kind, other in shares.items():
            target = state.load(self.where.container(other))
            if target is None or target.pid is None or target.status != "running":
                raise errors.ContainerError(f"`{made.name}` shares the {kind} of a container that is not running")
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] == kind:
                    namespace["path"] = f"/proc/{target.pid}/ns/{os.path.basename(namespace['path'])}"
            if kind == "ipc":
                config["annotations"][bundle.SHM] = f"/proc/{target.pid}/ns/mnt"
            if kind == "network":
                self._share_names(config, other)
        fs.write_json(path, config)

    def _share_names(self, config: dict[str, Any], other: str) -> None:
        """With a network come its names: the other container's own files, which are kept up to date for it."""
        folder = self.where.container(other)
        config["hostname"] = fs.read_json(f"{folder}/config.json").get("hostname", "")
        for mounted in config["mounts"]:
            name = os.path.basename(mounted["destination"])
            own = mounted["destination"] == f"/etc/{name}" and name in _FILES
            if own and os.path.dirname(os.path.dirname(mounted["source"])) == os.path.dirname(folder):
                mounted["source"] = f"{folder}/{name}"

    def _write_resolver(self, made: record.Record) -> None:
        named = bool(made.networks)
        text = resolv.content(
            dns=made.dns.get("servers", []) if not named else (),
            search=made.dns.get("search", []),
            options=made.dns.get("options", []),
            nameserver=types.NAMESERVER if named else "",
        )
        hosts.write(f"{self.where.container(made.id)}/resolv.conf", text)

    # -- unmaking ----------------------------------------------------------------------------------------------

    def discard(self, made: record.Record, *, volumes: bool) -> None:
        """Remove a container that does not run, with its writable layer and logs; its anonymous volumes on request."""
        self.monitor.delete(made.id, force=True)
        try:
            self.networks.release(made.id)
            released = True
        except OSError:
            # On a full disk nothing can be written before something is removed.
            released = False
        trash = self._hidden("old", made.id)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.where.container(made.id), trash)
        quota.release(f"{trash}/upper")
        tree.remove(trash)
        tree.remove(self.where.container_files(made.id))
        if not released:
            self.networks.release(made.id)
        if volumes:
            for name in made.anonymous_volumes:
                self.volumes.remove(name)

    def shut_down(self) -> None:
        """Nothing of the project runs any more: end the helpers that outlive a supervisor."""
        if self._monitor is not None:
            with contextlib.suppress(errors.DevenvError):
                self._monitor.shutdown()
        snapshots.unmount_volumes(self.where, self.project.id)
        self.networks.shutdown()

    def sweep(self) -> None:
        """Finish what a killed `prepare` or `discard` left: no container of ours has such a name."""
        # Before the containers: whose files are there has a folder.
        laid = os.listdir(f"{self.where.run}/files") if os.path.isdir(f"{self.where.run}/files") else []
        folder = f"{self.where.data}/containers"
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            return
        for name in laid:
            if not any(other == name or other.endswith(f"-{name}") for other in names):
                tree.remove(f"{self.where.run}/files/{name}")
        mine = tuple(f".{state}-{self.project.id}-" for state in ("new", "old"))
        for name in names:
            # Another project's id may begin like ours; the 64 digits after it settle whose it is.
            if name.startswith(mine) and len(name) == len(mine[0]) + 64:
                quota.release(f"{folder}/{name}/upper")
                tree.remove(f"{folder}/{name}")

    def sweep_files(self, made: Sequence[record.Record]) -> None:
        """What a supervisor left that was killed as it wrote one of its files. ``state.json`` is the monitor's."""
        for each in made:
            for name in ("container.json", "config.json", "intent.json", "health.json"):
                fs.remove_temporaries(f"{self.where.container(each.id)}/{name}")
        fs.remove_temporaries(f"{self.where.project_data(self.project.id)}/desired.json")
        for name in ("ports.json", "names.json", "netns.json"):
            fs.remove_temporaries(f"{self.where.project_run(self.project.id)}/{name}")

    def _hidden(self, kind: str, container_id: str) -> str:
        return f"{self.where.data}/containers/.{kind}-{self.project.id}-{container_id}"


def lost_files(where: paths.Paths, made: record.Record) -> bool:
    """Whether configs and secrets that were in memory are there no more."""
    folder = f"{where.container_files(made.id)}/"
    wanted = [str(mount["source"]) for mount in made.mounts if str(mount.get("source") or "").startswith(folder)]
    return not all(map(os.path.exists, wanted))


def _lay(folder: str, files: Mapping[str, tuple[bytes, int, int, int]]) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name, (content, mode, uid, gid) in files.items():
        fs.write_whole(f"{folder}/{name}", content)
        with contextlib.suppress(OSError):  # ids that a user namespace doesn't map stay ours
            os.chown(f"{folder}/{name}", uid, gid)
        os.chmod(f"{folder}/{name}", mode)


def _make_layer(overlay: bundle.Overlay, path: str) -> None:
    """The writable layer's root is what the container sees as its root: with the image's owner and mode."""
    os.mkdir(path, 0o700)
    below = os.stat(overlay.lower[0])
    with contextlib.suppress(OSError):
        # EPERM and EINVAL: ids that a user namespace does not map stay ours.
        os.chown(path, below.st_uid, below.st_gid)
    os.chmod(path, stat.S_IMODE(below.st_mode))
