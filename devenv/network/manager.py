"""The networks of one project: what reconcile calls.

    caller's thread ──▶ NetworkManager ──▶ worker (the network thread) ──▶ bridge, endpoint, nft
                              │
                              └──▶ store (records, under a lock), ipam (decides), rootless (the project's namespace)

Every call may be repeated and says the same again; whatever is missing in the kernel is made again from the records
on disk. So a new supervisor needs nothing from the last one, and a bridge deleted under us comes back at the next
``ensure``. Names are in ``hosts`` and ``resolv``, published ports in ``portproxy_client``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from devenv import errors
from devenv.network import (
    bridge,
    drivers,
    endpoint,
    firewall,
    ipam,
    iproute,
    neighbours,
    nft,
    rootless,
    rtnl,
    store,
    types,
    worker,
)
from devenv.util import paths as paths_

T = TypeVar("T")
# By these names, because a method of the class below is called `list`.
Networks = list[types.Network]
Endpoints = list[types.Endpoint]
Nets = list[ipam.Net]


class NetworkManager:
    """Safe to call from any thread; every kernel operation is done in one thread of its own."""

    def __init__(self, *, paths: paths_.Paths, project_id: str, project_name: str) -> None:
        self._paths = paths
        self._project_id = project_id
        self._project_name = project_name
        self._worker = worker.Worker()
        self._rootless = rootless.in_user_namespace()
        self._holder: rootless.Holder | None = None
        self._opens_host = False
        self._preparing = threading.Lock()
        self._host_routes: Nets = []
        self._forwards: tuple[types.Forward, ...] = ()
        self._rules: dict[str, firewall.Table] = {}  # by owner
        self._notes: dict[str, str] = {}

    # Networks

    def ensure(self, spec: types.NetworkSpec) -> types.Network:
        """The network, as ``spec`` wants it: found, repaired or made."""
        if spec.external:
            return self._external(spec)
        drivers.check(spec, rootless=self._rootless)
        self._prepare()
        return self._call(f"network `{spec.name}`", lambda: self._ensure(spec))

    def define(self, spec: types.NetworkSpec) -> types.Network:
        """A network that no project owns: made now, up whenever a project joins it. Raises when there is such a one."""
        drivers.check(spec, rootless=self._rootless)
        if store.load(self._paths, self._project_id, spec.name) is not None:
            raise errors.NetworkError(f"network `{spec.name}` exists already")
        return self._call(f"network `{spec.name}`", lambda: self._ensure(spec, kernel=self._is_machines))

    @property
    def _is_machines(self) -> bool:
        """Whether the machine's own network is ours to change."""
        return os.geteuid() == 0 and not self._rootless

    def diverged(self, spec: types.NetworkSpec) -> bool:
        """Whether the network is there, and made from other wishes than ``spec``'s."""
        network = store.load(self._paths, self._project_id, spec.name)
        return network is not None and not spec.external and network.wishes != store.wishes(spec)

    def list(self) -> Networks:
        return store.load_project(self._paths, self._project_id)

    def remove(self, name: str) -> None:
        """Remove a network of the project's; one that isn't there is removed already."""
        if not self._is_machines and not self._alive():
            # The namespace is gone, and every bridge with it.
            self._forget(name)
            return
        self._prepare()
        self._call(f"network `{name}`", lambda: self._remove(name))

    def prune(self) -> None:
        """Drop addresses of containers that don't exist any more, and bridges of this project that no record owns."""
        with store.locked(self._paths):
            for network in self.list():
                alive = {key: value for key, value in network.allocations.items() if self._exists(key)}
                if len(alive) != len(network.allocations):
                    store.save(self._paths, dataclasses.replace(network, allocations=alive))
        if self._rootless and not self._alive():
            return
        self._prepare()
        self._call("networks", self._prune)

    def shutdown(self) -> None:
        """Leave nothing of the project in the kernel: called when its last container is gone. Records stay."""
        if self._rootless:
            self._worker.call(self._worker.unsettle)
            self._worker.home = None
            rootless.end(self._paths.project_run(self._project_id))
            self._holder = None
        elif not self.list():
            with contextlib.suppress(OSError):
                self._worker.call(self._assert_rules)
        self._rules.clear()

    def close(self) -> None:
        """End the network thread. Bridges, addresses and rules stay as they are."""
        self._worker.close()

    def notes(self) -> tuple[str, ...]:
        """What works less well than it could, each with its remedy."""
        return tuple(self._notes.values())

    # Containers

    def attach(self, container_id: str, pid: int, specs: Sequence[types.EndpointSpec]) -> Endpoints:
        """Wire the network namespace of ``pid``; again after a restart, and with the same addresses.

        In the order in which interfaces are numbered. What is wired already is left alone.
        """
        if not specs:
            self.loopback(pid)
            return []
        self._prepare()
        return self._call(f"container `{container_id[:12]}`", lambda: self._attach(container_id, pid, specs))

    def disconnect(
        self, container_id: str, pid: int, gone: types.EndpointSpec, left: Sequence[types.EndpointSpec]
    ) -> Endpoints:
        """Take the container out of one network, running (``pid``) or not; ``left`` are those that it stays in."""
        network = gone.network
        if pid:
            self._prepare()
            self._call(f"network `{network}`", lambda: self._disconnect(pid, gone.interface_name))
        with store.locked(self._paths):
            found = self._find(network)
            allocations = {key: value for key, value in found.allocations.items() if key != container_id}
            store.save(self._paths, dataclasses.replace(found, allocations=allocations))
        if not (pid and left):
            return []
        return self._call(f"container `{container_id[:12]}`", lambda: self._reroute(container_id, pid, left))

    def loopback(self, pid: int) -> None:
        """Bring up nothing but the loopback, for ``network_mode: none``."""
        # From the host's namespace there would be no way back into it.
        self._prepare()
        self._call("loopback", lambda: self._loopback(pid))

    def endpoints(self, container_id: str, specs: Sequence[types.EndpointSpec]) -> Endpoints:
        """The addresses that the container has or will have, with nothing wired."""
        networks = self._allocate(container_id, 0, specs)
        return _endpoints(networks, container_id, specs)

    def release(self, container_id: str) -> None:
        """Give the container's addresses back. Its interfaces go with its network namespace."""
        if not self._rootless or self._alive():
            self._prepare()
            self._call(f"container `{container_id[:12]}`", lambda: self._unplug(container_id))
        with store.locked(self._paths):
            for network in store.load_all(self._paths):
                if container_id in network.allocations:
                    left = {key: value for key, value in network.allocations.items() if key != container_id}
                    store.save(self._paths, dataclasses.replace(network, allocations=left))

    def gateway(self, names: Iterable[str], *, asked: bool = False) -> str:
        """What ``host-gateway`` stands for in these networks: an address of the host's; empty if none is reached.

        In a user namespace a way to the host is opened only once somebody has ``asked``.
        """
        names = list(names)
        if self._rootless:
            outside = self.leads_outside(names)
            self._opens_host = self._opens_host or (asked and outside)
            self._prepare()
            outbound = self._holder.outbound if self._holder and outside else rootless.Outbound("", rootless.NOBODY, "")
            return outbound.host
        found = (self._find(name) for name in sorted(names))
        return next((network.gateways[0] for network in found if not network.internal and network.gateways), "")

    def leads_outside(self, names: Iterable[str]) -> bool:
        """Whether one of these networks does."""
        return any(not self._find(name).internal for name in names)

    def forward(self, asked: Iterable[tuple[str, Sequence[types.EndpointSpec], types.Publication, int]]) -> None:
        """Have the kernel lead these ports to containers: container, its networks, what is published and where.

        A port is held by the port proxy all the same, which serves the machine itself and IPv6.
        """
        found: list[types.Forward] = []
        for container_id, specs, one, port in asked:
            for item in self.endpoints(container_id, specs):
                network = self._find(item.network)
                own = network.project_id == self._project_id and network.bridge
                # What comes to the machine's own localhost is the port proxy's.
                if own and item.gateway and ":" not in one.host_ip and one.host_ip != "127.0.0.1":
                    host_ip = "" if one.host_ip == "0.0.0.0" else one.host_ip
                    found.append(types.Forward(one.protocol, host_ip, port, item.ipv4, one.target, network.bridge))
        if self._rootless or tuple(found) == self._forwards:
            return
        self._forwards = tuple(found)
        self._call("the rules of published ports", self._assert_rules)

    @property
    def is_rootless(self) -> bool:
        return self._rootless

    # In the caller's thread

    def _alive(self) -> bool:
        holder = rootless.load(self._paths.project_run(self._project_id))
        return holder is not None and holder.process.alive()

    def _prepare(self) -> None:
        """In a user namespace: have the project's namespace, and the network thread in it."""
        if not self._rootless:
            return
        with self._preparing:
            if self._holder is None:
                self._host_routes = self._worker.call(self._read_host_routes)
            settled = self._holder is not None
            spawn = (lambda: self._worker.call(rootless.spawn_here)) if settled else rootless.spawn_in_new_namespace
            holder = rootless.ensure(self._paths.project_run(self._project_id), spawn, host=self._opens_host)
            if holder == self._holder:
                return
            self._holder = holder
            self._worker.home = holder.path
            if not settled:
                self._call("the project's network namespace", self._settle)
            if holder.outbound.note:
                self._notes["outbound"] = holder.outbound.note
            else:
                self._notes.pop("outbound", None)

    def _call(self, what: str, job: Callable[[], T]) -> T:
        try:
            return self._worker.call(job)
        except errors.DevenvError:
            raise
        except Exception as exc:
            raise _translated(what, exc) from exc

    def _external(self, spec: types.NetworkSpec) -> types.Network:
        self._prepare()
        network = store.find(self._paths, spec.name, but="")
        if network is None:
            known = sorted({item.name for item in store.load_all(self._paths)})
            raise errors.NetworkError(
                f"network `{spec.name}` is external and does not exist",
                hint=f"`devenv network create {spec.name}`, or start the project that owns it first"
                + (f"; known networks: {', '.join(known)}" if known else ""),
            )
        if network.project_id == store.SHARED:
            self._call(f"network `{spec.name}`", lambda: self._raise_shared(network))
            return network
        if self._rootless and network.project_id != self._project_id:
            raise errors.NetworkError(
                f"network `{spec.name}` belongs to another project, whose networks this user namespace can't reach",
                hint="run both projects as root, or publish a port and use that",
            )
        if not network.parent and self._call("networks", lambda: bridge.index_of(network.bridge)) is None:
            raise errors.NetworkError(
                f"network `{spec.name}` is external and not up", hint="start the project that owns it first"
            )
        return network

    def _allocate(self, container_id: str, pid: int, specs: Sequence[types.EndpointSpec]) -> dict[str, types.Network]:
        """Hold an address on every network, all or none; the networks, with the container's allocation in each."""
        with store.locked(self._paths):
            networks: dict[str, types.Network] = {}
            changed: list[str] = []
            for spec in specs:
                network = self._find(spec.network)
                allocation = ipam.allocate(network, container_id, spec)
                if pid:
                    veth = endpoint.veth_name(container_id, spec.network, pid)
                    allocation = allocation._replace(interface=veth)
                allocations = {**network.allocations, container_id: allocation}
                networks[spec.network] = dataclasses.replace(network, allocations=allocations)
                if network.allocations.get(container_id) != allocation:
                    changed.append(spec.network)
            for name in changed:
                store.save(self._paths, networks[name])
        return networks

    def _find(self, name: str) -> types.Network:
        found = store.load(self._paths, self._project_id, name) or store.find(self._paths, name, but="")
        if found is None:
            raise errors.NetworkError(
                f"network `{name}` does not exist",
                hint=f"`devenv network create {name}`, or start the project that owns it",
            )
        return found

    def _exists(self, container_id: str) -> bool:
        return os.path.isdir(self._paths.container(container_id))

    def _forget(self, name: str) -> None:
        with store.locked(self._paths):
            network = store.load(self._paths, self._project_id, name)
            if network is not None:
                self._refuse_in_use(network)
                store.delete(self._paths, self._project_id, name)

    def _refuse_in_use(self, network: types.Network) -> None:
        users = [key for key in network.allocations if self._exists(key)]
        if users:
            raise errors.NetworkError(
                f"network `{network.name}` is in use by {len(users)} container{'s' if len(users) > 1 else ''}",
                hint=f"remove them first: {', '.join(key[:12] for key in sorted(users)[:5])}",
            )

    # In the network thread

    def _read_host_routes(self) -> Nets:
        with iproute.load()() as ip:
            return bridge.routed(ip)

    def _settle(self) -> None:
        self._worker.namespace  # noqa: B018 - moves the thread there
        rtnl.send([endpoint.loopback()])
        # The namespace is the project's alone, so its forwarding is nobody else's business.
        bridge.sysctl("ipv4/ip_forward", "1")
        bridge.sysctl("ipv6/conf/all/forwarding", "1")

    def _raise_shared(self, network: types.Network) -> None:
        if network.parent:
            return
        bridge.up(self._worker.ip, network)
        self._assert_rules(self._project_id if self._rootless else network.project_id)
        if self._rootless:
            self._notes["shared"] = (
                f"network `{network.name}` joins the containers of this project alone: the networks of an ordinary "
                "user's projects don't reach each other"
            )

    def _ensure(self, spec: types.NetworkSpec, *, kernel: bool = True) -> types.Network:
        ip = self._worker.ip
        with store.locked(self._paths):
            network = store.load(self._paths, self._project_id, spec.name)
            if network is not None and network.wishes != store.wishes(spec):
                self._refuse_in_use(network)
                bridge.down(ip, network.bridge)
                network = None
            if network is not None and self._outdated(spec, network):
                network = None
            if network is None:
                network = self._make(spec)
                store.save(self._paths, network)
        if kernel and not network.parent:
            bridge.up(ip, network)
            self._assert_rules()
        return network

    def _outdated(self, spec: types.NetworkSpec, network: types.Network) -> bool:
        """Whether a network that is down and unused lies where a route leads since: after a reboot, with a VPN."""
        if bridge.index_of(network.bridge) is not None or network.allocations or spec.pools:
            return False
        routes = self._routes()
        return any(ipam.overlaps(ipam.parse(subnet.subnet), routes) for subnet in network.subnets)

    def _routes(self) -> Nets:
        return [*self._host_routes, *bridge.routed(self._worker.ip)]

    def _make(self, spec: types.NetworkSpec) -> types.Network:
        name = spec.driver_opts.get(drivers.BRIDGE) or bridge.name_for(self._project_id, spec.name)
        if drivers.BRIDGE in spec.driver_opts and bridge.index_of(name) is not None:
            raise errors.NetworkError(
                f"network `{spec.name}` wants the bridge `{name}`, and an interface of that name exists already",
                hint=f"choose another name in `driver_opts: {{{drivers.BRIDGE}: …}}`",
            )
        others = [item for item in store.load_all(self._paths) if (item.project_id, item.name) != self._key(spec)]
        return types.Network(
            name=spec.name,
            project_id=self._project_id,
            driver=spec.driver,
            internal=spec.internal,
            subnets=ipam.subnets(
                spec,
                host=self._routes(),
                others=[ipam.parse(subnet.subnet) for item in others for subnet in item.subnets],
                seed=f"{self._project_id}/{spec.name}",
            ),
            bridge="" if drivers.PARENT in spec.driver_opts else name,
            parent=spec.driver_opts.get(drivers.PARENT, ""),
            mode=drivers.mode(spec),
            mtu=int(spec.driver_opts.get(drivers.MTU) or bridge.DEFAULT_MTU),
            wishes=store.wishes(spec),
            created=time.time(),
            labels=dict(spec.labels),
            allocations={},
        )

    def _key(self, spec: types.NetworkSpec) -> tuple[str, str]:
        return (self._project_id, spec.name)

    def _remove(self, name: str) -> None:
        with store.locked(self._paths):
            network = store.load(self._paths, self._project_id, name)
            if network is None:
                return
            self._refuse_in_use(network)
            bridge.down(self._worker.ip, network.bridge)
            store.delete(self._paths, self._project_id, name)
        self._assert_rules()

    def _prune(self) -> None:
        records = {network.bridge for network in self.list()}
        for name in bridge.owned(self._worker.ip, self._project_id):
            if name not in records:
                bridge.down(self._worker.ip, name)
        self._assert_rules()

    def _assert_rules(self, owner: str = "") -> None:
        """The table as the records want it; written again too when somebody flushed the machine's rules."""
        owner = owner or self._project_id
        every = store.load_project(self._paths, owner)
        if self._rootless:
            # The namespace is the project's own, and so are the shared networks in it.
            every += store.load_project(self._paths, store.SHARED)
        networks = [item for item in every if bridge.index_of(item.bridge) is not None]
        bridges = {item.bridge for item in networks}
        led = [forward for forward in self._forwards if forward.bridge in bridges]
        wanted = firewall.table(owner, networks, led, bridge.ways_out(self._worker.ip) if led else ())
        try:
            self._worker.namespace  # noqa: B018 - the thread has to stand in the right namespace
            if not self._rootless:
                self._pass_neighbours(wanted.name, networks)
            if not networks:
                nft.delete(wanted.name)
            elif wanted != self._rules.get(owner) or not nft.exists(wanted.name):
                nft.replace(wanted)
            self._rules[owner] = wanted
            self._notes.pop("nftables", None)
        except OSError as exc:
            self._notes["nftables"] = (
                "services can't reach the outside, and networks are not kept apart: the kernel refuses nftables "
                f"({exc.strerror}); try `modprobe nf_tables nft_masq nft_ct`"
            )
        if not self._rootless and any(not network.internal for network in networks):
            self._forward(networks)

    def _pass_neighbours(self, name: str, networks: Iterable[types.Network]) -> None:
        bridges = [network.bridge for network in networks]
        neighbours.let_pass(name, bridges)
        found = neighbours.obstacle(network.bridge for network in networks if not network.internal)
        self._notes.pop("neighbours", None)
        if found:
            self._notes["neighbours"] = found

    def _forward(self, networks: Iterable[types.Network]) -> None:
        """Let packets pass between our bridges and the way out, and no other interface.

        The setting counts where a packet comes in, so the answers' interface needs it as well.
        """
        bridges = [network.bridge for network in networks if not network.internal]
        for name in {*bridges, *bridge.ways_out(self._worker.ip)}:
            bridge.forward(name)

    def _attach(self, container_id: str, pid: int, specs: Sequence[types.EndpointSpec]) -> Endpoints:
        own = self._worker.namespace
        self._unplug(container_id, but={endpoint.veth_name(container_id, spec.network, pid) for spec in specs})
        networks = self._allocate(container_id, pid, specs)
        endpoints = _endpoints(networks, container_id, specs)
        try:
            namespace = endpoint.open_namespace(pid)
        except FileNotFoundError as exc:
            raise errors.NetworkError(f"process {pid} of container `{container_id[:12]}` is gone") from exc
        try:
            with endpoint.inside(namespace, own):
                there = endpoint.present()
            missing = [item for item in endpoints if item.interface not in there]
            for item in missing:
                rtnl.send([self._plug(networks[item.network], container_id, item, namespace)])
            if missing:
                self._configure(namespace, missing)
        finally:
            os.close(namespace)
        return endpoints

    def _plug(self, network: types.Network, container_id: str, item: types.Endpoint, namespace: int) -> rtnl.Request:
        """What makes the container's interface, in its namespace."""
        if network.parent:
            return drivers.plug(network, item, namespace)
        index = bridge.index_of(network.bridge)
        if index is None:
            index = bridge.up(self._worker.ip, network)
            self._assert_rules(self._project_id if self._rootless else network.project_id)
        return endpoint.plug(
            namespace=namespace,
            bridge_index=index,
            group=bridge.group(network.bridge),
            veth=network.allocations[container_id].interface,
            endpoint=item,
            mtu=network.mtu,
        )

    def _unplug(self, container_id: str, *, but: Iterable[str] = ()) -> None:
        """Silence what a container's last life left in the bridge, as long as its namespace lingers.

        The kernel takes tens of milliseconds to end a namespace, and until then two stacks answer to one address: the
        dead one refuses what the living one waits for. Taking the pair down costs microseconds, deleting it 20 ms.
        """
        for network in store.load_all(self._paths):
            held = network.allocations.get(container_id)
            if held is None or not held.interface or held.interface in but:
                continue
            index = bridge.index_of(held.interface)
            if index is not None:
                with contextlib.suppress(OSError):
                    rtnl.send([rtnl.down(index)])

    def _disconnect(self, pid: int, interface: str) -> None:
        namespace = endpoint.open_namespace(pid)
        try:
            with endpoint.inside(namespace, self._worker.namespace):
                index = bridge.index_of(interface)
                # The host's end goes with it.
                rtnl.send([rtnl.delete(index)] if index is not None else [])
        finally:
            os.close(namespace)

    def _reroute(self, container_id: str, pid: int, specs: Sequence[types.EndpointSpec]) -> Endpoints:
        """The default route again, after the network that it led through may have gone."""
        networks = {spec.network: self._find(spec.network) for spec in specs}
        endpoints = _endpoints(networks, container_id, specs)
        namespace = endpoint.open_namespace(pid)
        try:
            with endpoint.inside(namespace, self._worker.namespace):
                rtnl.send([request for item in endpoints for request in endpoint.routes(item)])
        finally:
            os.close(namespace)
        return endpoints

    def _configure(self, namespace: int, endpoints: Sequence[types.Endpoint]) -> None:
        with endpoint.inside(namespace, self._worker.namespace):
            requests = [endpoint.loopback()]
            for item in endpoints:
                requests += endpoint.configure(item)
            drivers.send_once_free(requests)

    def _loopback(self, pid: int) -> None:
        namespace = endpoint.open_namespace(pid)
        try:
            self._configure(namespace, ())
        finally:
            os.close(namespace)


def preload() -> None:
    """Import what the network thread needs: for a parent that forks engines, so that none pays for it."""
    iproute.load()


def _endpoints(
    networks: Mapping[str, types.Network], container_id: str, specs: Sequence[types.EndpointSpec]
) -> list[types.Endpoint]:
    ordered = endpoint.order(specs)
    names = endpoint.interfaces(ordered)
    gateways: dict[str, tuple[str, str]] = {}
    for spec in ordered:
        network, held = networks[spec.network], networks[spec.network].allocations[container_id]
        gateways[spec.network] = (ipam.gateway(network, held.ipv4), ipam.gateway(network, held.ipv6))
    default4 = endpoint.default_route(ordered, {name for name, pair in gateways.items() if pair[0]})
    default6 = endpoint.default_route(ordered, {name for name, pair in gateways.items() if pair[1]})
    made: list[types.Endpoint] = []
    for spec in ordered:
        network, held = networks[spec.network], networks[spec.network].allocations[container_id]
        made.append(
            types.Endpoint(
                network=spec.network,
                interface=names[spec.network],
                ipv4=held.ipv4,
                prefix=ipam.prefix(network, held.ipv4) if held.ipv4 else 0,
                ipv6=held.ipv6,
                prefix6=ipam.prefix(network, held.ipv6) if held.ipv6 else 0,
                mac=held.mac,
                gateway=gateways[spec.network][0] if spec.network == default4 else "",
                gateway6=gateways[spec.network][1] if spec.network == default6 else "",
                link_local=spec.link_local,
            )
        )
    return made


def _translated(what: str, exc: Exception) -> errors.NetworkError:
    code = getattr(exc, "code", None) or getattr(exc, "errno", None)
    reason = os.strerror(code) if isinstance(code, int) and code > 0 else str(exc)
    hint = None
    if code in (errno.EPERM, errno.EACCES):
        hint = "making networks needs CAP_NET_ADMIN: run as root, or as a user without being inside a container"
    elif code in (errno.EOPNOTSUPP, errno.ENODEV, errno.EPROTONOSUPPORT):
        hint = "the kernel lacks bridges or veth pairs: try `modprobe bridge veth`"
    return errors.NetworkError(f"{what}: {reason}", hint=hint, note=str(exc) if str(exc) != reason else None)
