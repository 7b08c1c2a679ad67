"""Why containers do not run, or not yet as they should: read from disk, for whoever lists them."""

from __future__ import annotations

from collections.abc import Iterable

from devenv.cli import inventory, operate
from devenv.reconcile import holds, reasons


def of(project: operate.Project, containers: Iterable[inventory.Container]) -> dict[str, list[reasons.Reason]]:
    """By the container's id; those that there is nothing to say of are left out."""
    held = holds.read(project.where, project.identity.id)
    found = {}
    for item in containers:
        mine = [] if item.state == "running" or item.record.oneoff else list(held.get(item.record.service, ()))
        if item.back_off is not None:
            mine.append(item.back_off)
        if item.health in {"starting", "unhealthy"}:
            mine.append(inventory.failing(project.where, item))
        if mine:
            found[item.record.id] = mine
    return found
