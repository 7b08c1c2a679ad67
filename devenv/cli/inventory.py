"""What containers there are, read from disk alone: no supervisor has to run, and none is started.

A container is three files (its record, its state and its health); ``state.load`` makes sure that one said to be
running has a living process.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, NamedTuple

from devenv import errors
from devenv.cli import formats
from devenv.reconcile import reasons
from devenv.reconcile import record as records
from devenv.reconcile.record import Record
from devenv.util import fs, paths

# The states that `ps` shows without --all, as docker does.
ACTIVE = frozenset({"running", "paused", "restarting"})


@dataclasses.dataclass(frozen=True, slots=True)
class Container:
    record: Record
    state: str  # docker's words: created, running, paused, restarting, exited, dead
    pid: int | None
    started: float | None
    finished: float | None
    exit_code: int | None
    oom_killed: bool
    health: str  # "", starting, healthy, unhealthy
    folder: str
    back_off: reasons.BackOff | None = None  # while it is restarting
    recorded: bool = True  # False for the moment between a process's end and the monitor's note of how it ended

    @property
    def has_ended(self) -> bool:
        """For good, and the exit code is known if it ever will be."""
        return self.state == "exited" and self.recorded

    @property
    def label(self) -> str:
        """``web-1``: the name without the project's, as it stands before log lines."""
        return self.record.name.removeprefix(f"{self.record.project}-").removeprefix(f"{self.record.project}_")

    def status(self, now: float) -> str:
        return formats.status(
            self.state,
            now=now,
            started=self.started,
            finished=self.finished,
            exit_code=self.exit_code,
            health=self.health,
            oom_killed=self.oom_killed,
        )


class Publisher(NamedTuple):
    URL: str
    TargetPort: int
    PublishedPort: int
    Protocol: str


def load(where: paths.Paths, project_id: str | None = None) -> list[Container]:
    """Every container (of a project), ordered by service and number."""
    return [_read(where, record) for record in records.load_all(where, project_id)]


def _read(where: paths.Paths, record: Record) -> Container:
    from devenv.runtime import state

    folder = where.container(record.id)
    current: Any = state.load(folder)
    recorded = True
    if current is not None and current.status == "stopped" and current.exit_code is None:
        recorded = _is_recorded(folder)
        if recorded:
            # It may have been only since we looked, and then there is a code.
            current = state.load(folder)
    status = current.status if current is not None else "created"
    found = records.health(where, record.id) if status == "running" else {}
    health = "" if found.get("soft") else str(found.get("status", ""))
    words = {"creating": "created", "stopped": "exited"}
    name = words.get(status, status)
    back_off = _back_off(where, record, current) if name == "exited" else None
    if back_off is not None:
        name = "restarting"
    return Container(
        record=record,
        state=name,
        back_off=back_off,
        recorded=recorded,
        pid=getattr(current, "pid", None),
        started=getattr(current, "started", None),
        finished=getattr(current, "finished", None),
        exit_code=getattr(current, "exit_code", None),
        oom_killed=bool(getattr(current, "oom_killed", False)),
        health="" if health == "none" else health,
        folder=folder,
    )


def _is_recorded(folder: str) -> bool:
    found = fs.read_json(f"{folder}/state.json")
    return isinstance(found, dict) and found.get("status") == "stopped"


def _back_off(where: paths.Paths, record: Record, current: Any) -> reasons.BackOff | None:
    """When its restart policy brings it back, if there is a supervisor to do so."""
    condition = record.restart.get("condition", "none")
    if condition == "none" or not os.path.exists(f"{where.project_run(record.project_id)}/supervisor.sock"):
        return None
    from devenv.reconcile import restart

    decision = restart.decide(
        restart.Policy.from_json(record.restart),
        exit_code=current.exit_code,
        runs=current.restarts,
        uptime=max((current.finished or 0.0) - (current.started or 0.0), 0.0),
        stopped_by_user=records.stopped_by_user(where, record.id),
    )
    if not isinstance(decision, restart.Restart):
        return None
    return reasons.BackOff(
        container=record.name,
        at=(current.finished or 0.0) + decision.delay,
        crash=decision.runs,
        exit_code=255 if current.exit_code is None else current.exit_code,
        crash_loop=decision.crash_loop,
    )


def failing(where: paths.Paths, item: Container) -> reasons.Health:
    """What its checks have said of late; also of those that nothing is shown of."""
    found = records.health(where, item.record.id)
    log = [each for each in found.get("log") or [] if each.get("exit_code") != 0]
    return reasons.Health(
        container=item.record.name,
        health=str(found.get("status") or "").replace("none", ""),
        failed=int(found.get("failing_streak") or 0),
        retries=int((item.record.healthcheck or {}).get("retries") or 3),
        last=str(log[-1].get("output") or "").strip()[-reasons.LAST :] if log else "",
    )


def of_services(containers: list[Container], services: list[str]) -> list[Container]:
    if not services:
        return containers
    wanted = set(services)
    return [container for container in containers if container.record.service in wanted]


def pick(containers: list[Container], service: str, index: int, *, states: frozenset[str]) -> Container:
    """The container of ``service`` to work on: number ``index``, or the first one in one of ``states``."""
    mine = [item for item in containers if item.record.service == service and not item.record.oneoff]
    if index:
        mine = [item for item in mine if item.record.number == index]
    ready = [item for item in mine if item.state in states]
    if ready:
        return ready[0]
    what = f"service `{service}`" + (f" number {index}" if index else "")
    if mine:
        verb = "unpause" if mine[0].state == "paused" else "start"
        raise errors.ContainerError(
            f"{what} is not running: it is {mine[0].state}", hint=f"`devenv {verb} {service}` starts it"
        )
    raise errors.ContainerError(f"{what} has no container", hint=f"`devenv up -d {service}` makes one")


def publishers(where: paths.Paths, container: Container) -> list[Publisher]:
    """Where its ports can be reached, in a stable order. A port that nobody published has number 0."""
    found: set[Publisher] = set()
    folder = where.project_run(container.record.project_id)
    if container.record.ports and container.state in ACTIVE and os.path.exists(f"{folder}/ports.json"):
        # Its import costs more than the rest of `ps`.
        from devenv.network import portproxy_client

        for item in portproxy_client.published(folder):
            if item.container_id == container.record.id:
                one = item.publication
                hosts = [one.host_ip] if one.host_ip else ["0.0.0.0", "::"]
                found.update(Publisher(host, one.target, item.port, one.protocol) for host in hosts)
    known = {(item.TargetPort, item.Protocol) for item in found}
    published = (
        (str(entry.get("target") or ""), str(entry.get("protocol") or "tcp")) for entry in container.record.ports
    )
    for target, protocol in (*published, *(each.split("/") for each in container.record.exposed)):
        if target.isdecimal() and (int(target), protocol) not in known:
            found.add(Publisher("", int(target), 0, protocol))
    return sorted(found, key=lambda item: (item.TargetPort, item.Protocol, item.URL, item.PublishedPort))
