"""A container into one more network, or out of one, while it runs or not: `network connect` and `disconnect`.

Its record says from then on what its service does not: so it is there after a restart, and gone with the container.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.network import types
from devenv.reconcile import convert_network, live, record

if TYPE_CHECKING:
    from devenv.reconcile import loop as loop_module


async def connect(loop: loop_module.Loop, container: live.Live, network: str, wish: Mapping[str, Any]) -> None:
    made = container.record
    if made.network_mode:
        raise errors.NetworkError(
            f"`{made.name}` has `network_mode: {made.network_mode}`, and no network of its own to connect"
        )
    if network in made.networks:
        raise errors.NetworkError(f"`{made.name}` is in network `{network}` already")
    await loop.run(loop.containers.networks.ensure, types.NetworkSpec(name=network, external=True))
    networks = {**await _pinned(loop, container), network: dict(wish)}
    after = dataclasses.replace(made, networks=networks)
    if container.pid is not None:
        container.wiring = await loop.run(loop.containers.attach, after, container.pid)
    else:
        # Its address is held, and a wrong one refused, before anything is written down.
        await loop.run(loop.containers.networks.endpoints, made.id, convert_network.endpoint_specs(networks))
    await _keep(loop, container, after)


async def disconnect(loop: loop_module.Loop, container: live.Live, network: str) -> None:
    made = container.record
    if network not in made.networks:
        known = ", ".join(f"`{name}`" for name in made.networks) or "none"
        raise errors.NetworkError(f"`{made.name}` is not in network `{network}`", hint=f"its networks: {known}")
    networks = await _pinned(loop, container)
    (gone,) = convert_network.endpoint_specs({network: networks.pop(network)})
    after = dataclasses.replace(made, networks=networks)
    left = convert_network.endpoint_specs(networks)
    await loop.run(loop.containers.networks.disconnect, made.id, container.pid or 0, gone, left)
    if container.pid is not None:
        container.wiring = await loop.run(loop.containers.wiring, after, container.pid)
    await _keep(loop, container, after)


async def _pinned(loop: loop_module.Loop, container: live.Live) -> dict[str, dict[str, Any]]:
    """Its networks, each with the interface that it has now: no other one may take its name."""
    made = container.record
    specs = convert_network.endpoint_specs(made.networks)
    endpoints = await loop.run(loop.containers.networks.endpoints, made.id, specs) if specs else []
    names = {item.network: item.interface for item in endpoints}
    return {network: {**wish, "interface_name": names[network]} for network, wish in made.networks.items()}


async def _keep(loop: loop_module.Loop, container: live.Live, after: record.Record) -> None:
    container.record = after
    await loop.run(record.save, loop.where, after)
    await loop.introduce(container)
