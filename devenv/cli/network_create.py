"""``devenv network create``: a network that no project owns, for projects to join as `external`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import networking, operate, options
from devenv.network import ipam, store, types
from devenv.util import paths

Strings = list[str] | None


def command(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NETWORK", show_default=False)],
    driver: Annotated[
        str, typer.Option("--driver", "-d", metavar="DRIVER", help="bridge, macvlan or ipvlan")
    ] = "bridge",
    subnets: Annotated[
        Strings, typer.Option("--subnet", metavar="CIDR", help="Addresses, for instance 10.9.0.0/16")
    ] = None,
    gateways: Annotated[Strings, typer.Option("--gateway", metavar="IP", help="The bridge's own address")] = None,
    ranges: Annotated[
        Strings, typer.Option("--ip-range", metavar="CIDR", help="Where containers' addresses are from")
    ] = None,
    aux: Annotated[Strings, typer.Option("--aux-address", metavar="NAME=IP", help="An address to leave alone")] = None,
    internal: Annotated[bool, typer.Option("--internal", help="Without a way out")] = False,
    ipv4: Annotated[bool, typer.Option("--ipv4/--no-ipv4", help="Give IPv4 addresses")] = True,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Give IPv6 addresses")] = False,
    labels: Annotated[Strings, typer.Option("--label", metavar="KEY=VALUE", help="A label")] = None,
    opts: Annotated[Strings, typer.Option("--opt", "-o", metavar="KEY=VALUE", help="An option of the driver")] = None,
    attachable: Annotated[bool, typer.Option("--attachable", hidden=True)] = False,
    ipam_driver: Annotated[str, typer.Option("--ipam-driver", hidden=True)] = "default",
    scope: Annotated[str, typer.Option("--scope", hidden=True)] = "local",
) -> None:
    """Create a network."""
    del attachable
    operate.refuse_dry_run(ctx.obj, "network create")
    if ipam_driver != "default" or scope not in {"", "local"}:
        raise errors.UsageError("`--ipam-driver` and `--scope` are for clusters and plugins, which devenv has not")
    where = paths.locate()
    if any(item.name == name for item in store.load_all(where)):
        raise errors.NetworkError(f"network `{name}` exists already")
    spec = types.NetworkSpec(
        name=name,
        driver=driver,
        driver_opts=options.pairs("--opt", opts),
        internal=internal,
        enable_ipv4=ipv4,
        enable_ipv6=ipv6,
        pools=pools(subnets or (), gateways or (), ranges or (), sorted(options.pairs("--aux-address", aux).items())),
        labels=options.pairs("--label", labels),
    )
    owner = networking.shared(where)
    try:
        print(store.id_of(owner.define(spec)))
    finally:
        owner.close()


def pools(
    subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], aux: Sequence[tuple[str, str]]
) -> tuple[types.Pool, ...]:
    """Each gateway, range and address belongs to the subnet that it lies in, as with Docker."""
    found = [types.Pool(subnet=subnet) for subnet in subnets]
    for option, texts in (("gateway", gateways), ("ip_range", ranges)):
        for text in texts:
            at = _home(found, text, option)
            if getattr(found[at], option):
                raise errors.UsageError(f"two `--{option.replace('_', '-')}` for the subnet `{found[at].subnet}`")
            found[at] = found[at]._replace(gateway=text) if option == "gateway" else found[at]._replace(ip_range=text)
    for key, text in aux:
        at = _home(found, text, "aux_address")
        found[at] = found[at]._replace(aux_addresses=(*found[at].aux_addresses, (key, text)))
    return tuple(found)


def _home(found: Sequence[types.Pool], text: str, option: str) -> int:
    name = f"--{option.replace('_', '-')}"
    try:
        wanted = ipam.parse(text)
        for at, pool in enumerate(found):
            if ipam.overlaps(wanted, [ipam.parse(pool.subnet)]):
                return at
    except ValueError as exc:
        raise errors.UsageError(f"{exc}") from exc
    raise errors.UsageError(f"`{name} {text}` lies in no `--subnet`")
