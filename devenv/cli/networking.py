"""What the commands about networks share: finding one by its name or id, in whatever project it is."""

from __future__ import annotations

from collections.abc import Sequence

from devenv import errors
from devenv.cli import containing, inventory, operate, options, report
from devenv.cli.display import sink
from devenv.network import manager, store, types
from devenv.util import paths


def find(networks: Sequence[types.Network], text: str) -> types.Network:
    """By name, by id or the beginning of one. Raises ``NetworkError``."""
    exact = [item for item in networks if text in {item.name, store.id_of(item)}]
    found = exact or [item for item in networks if text and store.id_of(item).startswith(text)]
    if len(found) > 1:
        raise errors.NetworkError(
            f"{len(found)} networks are meant by `{text}`", hint="write its id, which `devenv network ls` shows"
        )
    if not found:
        raise errors.NetworkError(
            f"there is no network `{text}`",
            hint=report.did_you_mean(text, [item.name for item in networks]) or "`devenv network ls` lists them",
        )
    return found[0]


def guests(network: types.Network, containers: Sequence[inventory.Container]) -> list[inventory.Container]:
    """The containers in it, running or not."""
    return [item for item in containers if item.record.id in network.allocations]


def shared(where: paths.Paths) -> manager.NetworkManager:
    """Of networks that no project owns."""
    return manager.NetworkManager(paths=where, project_id=store.SHARED, project_name="")


def remove(given: options.Globals, where: paths.Paths, network: types.Network) -> None:
    """By the supervisor of the project that owns it; without one, here."""
    if network.project_id != store.SHARED:
        containers = [item for item in inventory.load(where) if item.record.project_id == network.project_id]
        if containers:
            supervisor = operate.ensure(containing.Home(where, containers[0]))
            operate.request(supervisor, "network_remove", {"network": network.name}, show=sink.choose(given))
            return
    owner = manager.NetworkManager(paths=where, project_id=network.project_id, project_name="")
    try:
        owner.remove(network.name)
    finally:
        owner.close()
