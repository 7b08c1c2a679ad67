"""What devenv wrote down about a container when it made it: ``containers/<id>/container.json``.

The record is written whole before the runtime hears of the container and replaced only by reconcile, so whoever
reads it (``ps``, a supervisor that has just been started, ``down`` without a spec) sees all that was decided then.
What changes while the container runs is in two other files: ``state.json``, which the monitor writes, and
``health.json``, which the supervisor writes. ``intent.json`` keeps the one thing that neither can know: that it
was a person who stopped the container, so that no restart policy brings it back.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from devenv.util import fs, paths

SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    id: str  # 64 hexadecimal digits, as the field has them
    name: str
    project: str
    project_id: str
    project_dir: str
    config_files: tuple[str, ...]
    service: str
    number: int
    oneoff: bool
    image: str  # the reference, as the spec wrote it
    image_id: str  # sha256:…
    config_digest: str
    sections: dict[str, str]  # attribute -> digest, so that a divergence can be named
    created: float  # seconds since the epoch
    command: tuple[str, ...]
    labels: dict[str, str]
    depends_on: dict[str, dict[str, Any]]
    restart: dict[str, Any]  # condition, max_attempts, delay, window: see restart.Policy
    network_mode: str  # "", none, host, service:x, container:x
    # network, pid, ipc -> the service:x or container:x whose namespace it joins
    shares: dict[str, str] = dataclasses.field(default_factory=dict)
    networks: dict[str, dict[str, Any]]  # key of the network -> the endpoint's wishes
    ports: tuple[dict[str, Any], ...]
    exposed: tuple[str, ...] = ()  # 80/tcp: what listens inside by the image's and the spec's word
    mounts: tuple[dict[str, Any], ...]
    volumes: tuple[str, ...]  # names of volumes it uses; anonymous ones too
    anonymous_volumes: tuple[str, ...]
    storage_size: int = 0  # bytes that its writable layer may take; 0 for as many as there are
    stop_signal: str
    stop_grace_period: float  # seconds
    healthcheck: dict[str, Any] | None
    user: str
    working_dir: str
    tty: bool
    stdin_open: bool
    hostname: str
    domainname: str
    extra_hosts: dict[str, list[str]]
    links: dict[str, str]  # alias -> service, or container of any project
    dns: dict[str, list[str]]  # servers, search, options
    logging: dict[str, str]
    hooks: dict[str, list[dict[str, Any]]]
    auto_remove: bool = False  # `run --rm -d`: it goes when it has ended
    schema: int = SCHEMA

    @property
    def image_ids(self) -> frozenset[str]:
        """Its own image's, and those of images that it has mounted."""
        return frozenset({self.image_id, *(each["image_id"] for each in self.mounts if each.get("image_id"))})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        known = {field.name for field in dataclasses.fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        for key in ("config_files", "command", "ports", "mounts", "volumes", "anonymous_volumes"):
            values[key] = tuple(values[key])
        values["exposed"] = tuple(values.get("exposed") or ())
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def save(where: paths.Paths, record: Record) -> None:
    fs.write_json(f"{where.container(record.id)}/container.json", record.to_json())


def load(where: paths.Paths, container_id: str) -> Record | None:
    """None when there is no such container, or only the beginnings of one."""
    data = fs.read_json(f"{where.container(container_id)}/container.json")
    if not isinstance(data, dict):
        return None
    try:
        return Record.from_json(data)
    except (KeyError, TypeError):
        return None


def load_all(where: paths.Paths, project_id: str | None = None) -> list[Record]:
    """Every container, or every one of a project, ordered by service and number."""
    try:
        names = os.listdir(f"{where.data}/containers")
    except FileNotFoundError:
        return []
    # A name with a dot is a container that is being made or removed: see devenv.reconcile.containers.
    whole = (name for name in names if not name.startswith("."))
    records = [record for name in whole if (record := load(where, name)) is not None]
    if project_id is not None:
        records = [record for record in records if record.project_id == project_id]
    return sorted(records, key=lambda record: (record.project, record.service, record.oneoff, record.number))


def stopped_by_user(where: paths.Paths, container_id: str) -> bool:
    return bool((fs.read_json(f"{where.container(container_id)}/intent.json") or {}).get("stopped"))


def set_stopped_by_user(where: paths.Paths, container_id: str, *, stopped: bool) -> None:
    if stopped != stopped_by_user(where, container_id):
        fs.write_json(f"{where.container(container_id)}/intent.json", {"stopped": stopped})


def health(where: paths.Paths, container_id: str) -> dict[str, Any]:
    """``{}`` for a container without a health check."""
    data = fs.read_json(f"{where.container(container_id)}/health.json")
    return data if isinstance(data, dict) else {}
