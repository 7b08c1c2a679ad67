"""The snapshot that plans are made from: containers as the loop knows them, networks and volumes as they are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from devenv.reconcile import containers, desired, live, observed
from devenv.util import identity


def observe(
    project: identity.Project,
    containers_there: Iterable[live.Live],
    mechanisms: containers.Containers,
    environment: desired.Environment | None,
) -> observed.Observed:
    """May block: reads the records of networks and volumes. Keys are known where the spec is."""
    network_keys = _keys(environment, "networks")
    volume_keys = _keys(environment, "volumes")
    return observed.Observed(
        project_id=project.id,
        containers=tuple(_container(container, mechanisms) for container in containers_there),
        networks=tuple(
            observed.Network(name=network.name, key=network_keys.get(network.name, ""), digest=network.wishes)
            for network in mechanisms.networks.list()
        ),
        volumes=tuple(
            observed.Volume(name=volume.name, key=volume_keys.get(volume.name, ""))
            for volume in mechanisms.volumes.list()
            if not volume.anonymous
        ),
    )


def _container(container: live.Live, mechanisms: containers.Containers) -> observed.Container:
    found = container.observe()
    if container.runs or not containers.lost_files(mechanisms.where, container.record):
        return found
    # After a restart of the machine: only a new one has them again.
    gone = {"configs and secrets, which were in memory": "gone"}
    return dataclasses.replace(found, config_digest="", sections={**found.sections, **gone})


def _keys(environment: desired.Environment | None, kind: str) -> dict[str, str]:
    if environment is None:
        return {}
    return {definition["name"]: key for key, definition in environment.definitions(kind).items()}
