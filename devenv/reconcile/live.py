"""What the loop knows of a container at this moment, beside its record."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

from devenv.health import probe
from devenv.reconcile import naming, observed, reasons, record, waiting
from devenv.runtime import state
from devenv.util import paths


@dataclasses.dataclass(slots=True)
class Live:
    record: record.Record
    status: str = "created"  # created, running, paused, stopped; "restarting" while a restart is due
    pid: int | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    started: float | None = None  # seconds since the epoch
    health: dict[str, Any] = dataclasses.field(default_factory=dict)
    stopped_by_user: bool = False
    gave_up: bool = True  # while it does not run: no policy brings it back
    gave_up_because: str = ""
    restarts: int = 0  # since somebody started it by hand
    streak: int = 0  # those of them without a calm spell between
    crash_loop: bool = False
    wiring: naming.Wiring = naming.NOWHERE  # while it runs
    prober: asyncio.Task[None] | None = None
    restart: asyncio.TimerHandle | None = None
    restart_at: float = 0.0  # when that is due, in seconds since the epoch

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def runs(self) -> bool:
        return self.status in {"running", "paused"}

    @property
    def health_status(self) -> str:
        status = str(self.health.get("status", ""))
        return "" if status == probe.Status.NONE else status

    def uptime(self) -> float:
        return 0.0 if self.started is None else max(0.0, time.time() - self.started)

    def seen(self) -> waiting.Seen:
        log = self.health.get("log") or []
        failed = [entry for entry in log if entry.get("exit_code") != 0]
        return waiting.Seen(
            name=self.record.name,
            status=self.status,
            exit_code=self.exit_code,
            health=self.health_status,
            last_output=str(failed[-1].get("output", "")) if failed else "",
            failed=int(self.health.get("failing_streak") or 0),
            retries=int((self.record.healthcheck or {}).get("retries") or probe.DEFAULT_RETRIES),
            gave_up=self.gave_up,
            uptime=self.uptime(),
            back_off=self._back_off(),
        )

    def _back_off(self) -> reasons.BackOff | None:
        if self.status != "restarting":
            return None
        return reasons.BackOff(
            container=self.record.name,
            at=self.restart_at,
            crash=self.restarts,
            exit_code=255 if self.exit_code is None else self.exit_code,
            crash_loop=self.crash_loop,
        )

    def observe(self) -> observed.Container:
        made = self.record
        return observed.Container(
            id=made.id,
            name=made.name,
            service=made.service,
            number=made.number,
            oneoff=made.oneoff,
            config_digest=made.config_digest,
            sections=made.sections,
            image_id=made.image_id,
            state=self.status,
            exit_code=self.exit_code,
            health=self.health_status,
            networks=tuple(sorted(made.networks)),
            volumes=made.volumes,
            depends_on=made.depends_on,
            pre_start=tuple(bool(hook.get("per_replica")) for hook in made.hooks.get("pre_start") or ()),
            ever_started=self.started is not None,
            stopped_by_user=self.stopped_by_user,
            created=made.created,
        )

    def forget_process(self) -> None:
        """It does not run any more: nothing may go on probing or restarting it."""
        if self.prober is not None:
            self.prober.cancel()
            self.prober = None
        if self.restart is not None:
            self.restart.cancel()
            self.restart = None


def anonymous_volumes(container: Live) -> dict[str, str]:
    """By their targets."""
    names = set(container.record.anonymous_volumes)
    return {mount["target"]: mount["name"] for mount in container.record.mounts if mount["name"] in names}


def starting(made: record.Record) -> dict[str, Any]:
    """The health of a container that has just begun."""
    if made.healthcheck is None:
        return {}
    return {"status": str(probe.Status.STARTING), **({"soft": True} if made.healthcheck.get("soft") else {})}


def from_disk(where: paths.Paths, made: record.Record) -> Live:
    found = Live(record=made, stopped_by_user=record.stopped_by_user(where, made.id))
    found.health = record.health(where, made.id)
    seen = state.load(where.container(made.id))
    update(found, seen)
    if seen is not None:
        found.restarts = found.streak = seen.restarts
    return found


def update(found: Live, seen: state.State | None) -> None:
    """Take over what the monitor wrote."""
    if seen is None:
        return
    found.status = "created" if seen.status == "creating" else seen.status
    found.pid = seen.pid if found.runs else None
    found.exit_code = seen.exit_code
    found.oom_killed = seen.oom_killed
    found.started = seen.started
    if not found.runs:
        found.health = {}
