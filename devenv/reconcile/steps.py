"""Operations on one observed container, as every planner makes them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from devenv.reconcile import observed, plan


def stop(
    builder: plan.Builder, container: observed.Container, cause: str, *, timeout: float | None, **parameters: Any
) -> str:
    return builder.add(
        plan.Type.CONTAINER_STOP,
        resource(container),
        cause,
        service=container.service,
        number=container.number,
        container_id=container.id,
        name=container.name,
        timeout=timeout,
        **parameters,
    )


def remove(
    builder: plan.Builder, container: observed.Container, cause: str, *, after: Iterable[str], volumes: bool
) -> str:
    return builder.add(
        plan.Type.CONTAINER_REMOVE,
        resource(container),
        cause,
        after=after,
        service=container.service,
        number=container.number,
        container_id=container.id,
        name=container.name,
        volumes=volumes,
    )


def resource(container: observed.Container) -> str:
    """One-off containers have no number of their own."""
    return f"run:{container.name}" if container.oneoff else f"service:{container.service}:{container.number}"
