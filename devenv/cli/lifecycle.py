"""``start``, ``stop``, ``restart``, ``kill``, ``pause``, ``unpause``: containers that are there change their state."""

from __future__ import annotations

from typing import Any

from devenv.cli import context, inventory, operate, options


def change(
    given: options.Globals,
    op: str,
    services: list[str] | None,
    params: dict[str, Any],
    *,
    states: frozenset[str] | None = None,
) -> None:
    """``op`` on the containers of ``services``. With none in one of ``states`` there is nothing to do."""
    operate.refuse_dry_run(given, op)
    project = context.find(given)
    names = project.check_services(services)
    containers = inventory.of_services(inventory.load(project.where, project.identity.id), names)
    if not [item for item in containers if states is None or item.state in states]:
        return
    operate.perform(given, project, op, {"services": names, **params})
