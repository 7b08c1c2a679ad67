"""The snapshot that plans are made from: containers as the loop knows them, networks and volumes as they are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from devenv.reconcile import containers, desired, jobs, live, observed
from devenv.util import identity


def observe(
    project: identity.Project,
    containers_there: Iterable[live.Live],
    mechanisms: containers.Containers,
    environment: desired.Environment | None,
) -> observed.Observed:
    """May block: reads the records of networks and volumes, and what jobs were made of. Keys need the spec."""
    everyone = list(containers_there)
    family = [each.record for each in everyone]
    done = () if environment is None else jobs.find(environment)

    def look(container: live.Live) -> observed.Container:
        found = _container(container, mechanisms)
        if environment is None or found.oneoff or found.service not in done or not found.ended_well:
            return found
        changed = jobs.changed(mechanisms.where, environment, container.record, family)
        return dataclasses.replace(found, changed=changed)

    network_keys = _keys(environment, "networks")
    volume_keys = _keys(environment, "volumes")
    return observed.Observed(
        project_id=project.id,
        containers=tuple(map(look, everyone)),
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
