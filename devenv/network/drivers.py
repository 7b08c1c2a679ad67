"""What kinds of network there are, and their options: `bridge`, and as root `macvlan` and `ipvlan`.

The latter two have no bridge of ours: each container's interface is a further one of an interface that the machine has
(``parent``), with an address of its own in the network that this is in. Nothing is routed, translated or filtered.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Sequence

from devenv import errors
from devenv.network import rtnl, types

BRIDGE = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
PARENT = "parent"
PATIENCE = 3.0
# By driver: the option that names a mode, the first being the default; linux/if_link.h has their numbers.
MODES: dict[str, tuple[str, dict[str, int]]] = {
    "macvlan": ("macvlan_mode", {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8}),
    "ipvlan": ("ipvlan_mode", {"l2": 0, "l3": 1, "l3s": 2}),
}

OPTIONS = frozenset({BRIDGE, MTU, PARENT, *(option for option, _ in MODES.values())})


def check(spec: types.NetworkSpec, *, rootless: bool) -> None:
    """Raises ``NetworkError`` for what can't be made."""
    if spec.driver in MODES:
        _check_parent(spec, rootless=rootless)
    elif spec.driver not in ("", "bridge", "default"):
        raise errors.NetworkError(
            f"network `{spec.name}` wants the driver `{spec.driver}`, which is not built in",
            hint="use `bridge`, `macvlan` or `ipvlan`, or `network_mode: host` for the machine's own network",
        )
    mtu = spec.driver_opts.get(MTU, "1500")
    if not mtu.isdecimal() or not 68 <= int(mtu) <= 65535:
        raise errors.NetworkError(f"network `{spec.name}` has no valid MTU: `{mtu}`", hint="use 68 to 65535")
    name = spec.driver_opts.get(BRIDGE, "br0")
    if not name or len(name.encode()) > 15 or any(char in "/: \t\n%" for char in name) or name in (".", ".."):
        raise errors.NetworkError(
            f"network `{spec.name}` can't have a bridge called `{name}`", hint="use at most 15 letters and digits"
        )


def _check_parent(spec: types.NetworkSpec, *, rootless: bool) -> None:
    option, modes = MODES[spec.driver]
    if rootless:
        raise errors.NetworkError(
            f"network `{spec.name}` wants the driver `{spec.driver}`, which is the machine's own network and root's",
            hint="run devenv as root, or use `driver: bridge`",
        )
    if spec.driver_opts.get(option, next(iter(modes))) not in modes:
        raise errors.NetworkError(
            f"network `{spec.name}` has no valid `{option}`: `{spec.driver_opts[option]}`",
            hint=f"it is one of {', '.join(modes)}",
        )
    parent = spec.driver_opts.get(PARENT, "")
    if not parent:
        raise errors.NetworkError(
            f"network `{spec.name}` names no interface of the machine",
            hint=f"`driver_opts: {{{PARENT}: eth0}}`; `ip -brief link` lists them",
        )
    if parent not in {name for _, name in socket.if_nameindex()}:
        raise errors.NetworkError(
            f"network `{spec.name}` wants the interface `{parent}`, which this machine has not",
            hint="`ip -brief link` lists them; a VLAN's: `ip link add link eth0 name eth0.5 type vlan id 5`",
        )
    if not spec.pools:
        raise errors.NetworkError(
            f"network `{spec.name}` has no subnet",
            hint=f"give it that of `{parent}` with `ipam: {{config: [{{subnet: …}}]}}`",
        )


def mode(spec: types.NetworkSpec) -> str:
    if spec.driver not in MODES:
        return ""
    option, modes = MODES[spec.driver]
    return spec.driver_opts.get(option, next(iter(modes)))


def plug(network: types.Network, item: types.Endpoint, namespace: int) -> rtnl.Request:
    """The container's interface on the parent; sent where the parent is."""
    _, modes = MODES[network.driver]
    number = modes[network.mode]
    return rtnl.sublink(
        network.driver,
        parent=socket.if_nametoindex(network.parent),
        mode=number.to_bytes(4 if network.driver == "macvlan" else 2, "little"),
        name=item.interface,
        # An ipvlan has its parent's.
        mac=item.mac if network.driver == "macvlan" else "",
        mtu=network.mtu,
        namespace=namespace,
    )


def send_once_free(requests: Sequence[rtnl.Request]) -> None:
    """Carry out what may be repeated: a macvlan of the container's last life still has its address for a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            rtnl.send(requests)
            return
        except OSError as exc:
            if exc.errno not in (errno.EBUSY, errno.EADDRINUSE) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
