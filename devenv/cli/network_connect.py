"""``devenv network connect`` and ``disconnect``: a container into one more network, or out of one, while it runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from devenv.cli import containing, inventory, networking, operate, options, terminal
from devenv.cli.display import sink
from devenv.network import store
from devenv.util import paths

Network = Annotated[str, typer.Argument(metavar="NETWORK", show_default=False)]
Container = Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)]
Strings = list[str] | None


def command(
    ctx: typer.Context,
    *,
    network: Network,
    container: Container,
    alias: Annotated[
        Strings, typer.Option("--alias", metavar="NAME", help="One more name of it in the network")
    ] = None,
    ip: Annotated[str, typer.Option("--ip", metavar="IP", help="Its IPv4 address")] = "",
    ip6: Annotated[str, typer.Option("--ip6", metavar="IP", help="Its IPv6 address")] = "",
    gw_priority: Annotated[
        int, typer.Option("--gw-priority", metavar="NUMBER", help="Whose is the highest leads to the outside")
    ] = 0,
    opts: Annotated[
        Strings, typer.Option("--driver-opt", metavar="KEY=VALUE", help="com.docker.network.endpoint.ifname=NAME")
    ] = None,
) -> None:
    """Connect a container to a network."""
    given = options.pairs("--driver-opt", opts)
    wish = {
        "key": network,
        "aliases": list(alias or ()),
        "ipv4": ip,
        "ipv6": ip6,
        "mac": "",
        "interface_name": given.get("com.docker.network.endpoint.ifname", ""),
        "gw_priority": gw_priority,
        "priority": 0,
    }
    answer = _request(ctx, "network_connect", network, container, wish=wish)
    for note in answer.get("notes") or ():
        terminal.warn(note)


def disconnect(
    ctx: typer.Context,
    *,
    network: Network,
    container: Container,
    force: Annotated[bool, typer.Option("--force", "-f", hidden=True)] = False,
) -> None:
    """Disconnect a container from a network."""
    del force
    _request(ctx, "network_disconnect", network, container)


def _request(ctx: typer.Context, op: str, network: str, container: str, **more: Any) -> dict[str, Any]:
    operate.refuse_dry_run(ctx.obj, op.replace("_", " "))
    where = paths.locate()
    found = networking.find(store.load_all(where), network)
    item = containing.find(inventory.load(where), container)
    supervisor = operate.ensure(containing.Home(where, item))
    params = {"network": found.name, "container": item.record.id, **more}
    return dict(operate.request(supervisor, op, params, show=sink.choose(ctx.obj)))
