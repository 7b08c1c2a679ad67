"""``devenv why SERVICE``: why its containers are as they are, from what is on disk and in the project's journal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.build import why
from devenv.cli import context, formats, inventory, options, terminal
from devenv.image import reference
from devenv.reconcile import desired, holds, jobs, journal, reasons, record, waiting
from devenv.runtime import logs
from devenv.util import paths

_LINES = 5  # of a container's last words


def command(
    ctx: typer.Context,
    *,
    service: options.Service,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", help="Lines of its last output to show")] = _LINES,
) -> None:
    """Say why a service was made anew, why it waits, or why it died; or why an image's steps were."""
    built = _built(service)
    if built is not None and not _is_service(ctx, service):
        for line in _of_image(built):
            print(terminal.visible(line))
        return
    project = context.load(ctx.obj, [service], warn=False)
    project.check_services([service])
    entries = list(journal.read(project.where, project.identity))
    containers = inventory.load(project.where, project.identity.id)
    mine = [item for item in containers if item.record.service == service and not item.record.oneoff]
    reader = _Reader(project, entries, containers)
    told = [line for item in mine for line in reader.about(item, lines)]
    if not mine:
        told = [f"{service} has no container", *reader.failures(service)]
    created = [item.record.created for item in mine if item.state == "created"]
    if not mine or created:
        told += list(reader.waits(service)) or [reader.unstarted(since) for since in created]
    for line in told:
        print(terminal.visible(line))


def _built(name: str) -> why.Build | None:
    """The last build of an image called so, if there was one."""
    try:
        wanted = reference.parse(name)
    except errors.ImageError:
        return None
    return why.find(paths.locate(), str(wanted)) if wanted.transport is reference.Transport.REGISTRY else None


def _is_service(ctx: typer.Context, name: str) -> bool:
    try:
        return name in context.load(ctx.obj, [], warn=False).canonical["services"]
    except errors.DevenvError:
        return False


def _of_image(built: why.Build) -> Iterator[str]:
    for step in built.steps:
        yield f"{step.name}: {'from the cache' if step.cached else 'done anew'}"
        yield from (f"  {reason}" for reason in step.reasons)


class _Reader:
    def __init__(
        self, project: context.Loaded, entries: list[journal.Entry], containers: list[inventory.Container]
    ) -> None:
        self._project = project
        self._entries = entries
        self._containers = containers
        self._now = time.time()

    def about(self, item: inventory.Container, lines: int) -> Iterator[str]:
        made = item.record
        status = formats.status(
            item.state,
            now=self._now,
            started=item.started,
            finished=item.finished,
            exit_code=item.exit_code,
            health=item.health,
            oom_killed=item.oom_killed,
        )
        yield f"{made.name}: {status}"
        cause = self._last("operation", type="container.create", service=made.service)
        ago = self._ago(made.created)
        because = f": {str(cause['cause']).replace('there is none yet', 'there was none')}" if cause else ""
        yield f"  made {ago}{because}"
        start = self._last("operation", type="container.start", service=made.service)
        if start and start["cause"] not in {"created", "recreated"}:
            yield f"  started {self._ago(start['time'])}: {start['cause']}"
        if item.state in {"exited", "restarting"}:
            yield from self._death(item)
            yield from self._job(item)
        deaths = [each for each in self._events(made.name, "die") if not each.get("asked")]
        if deaths and item.state not in {"exited", "restarting"}:
            last = deaths[-1]
            code = _code(last.get("exit_code"), last.get("oom"))
            yield f"  died {_times(len(deaths))} before, last {self._ago(last['time'])}: {code}"
        if item.health in {"starting", "unhealthy"}:
            yield from self._health(item)
        if item.state != "running" or item.health == "unhealthy":
            yield from _last_words(item, lines)

    def _ago(self, moment: float) -> str:
        words = formats.duration(self._now - moment)
        return f"{words[:1].lower()}{words[1:]} ago"

    def _death(self, item: inventory.Container) -> Iterator[str]:
        last = next(iter(reversed(self._events(item.record.name, "die"))), {})
        if not item.recorded:
            yield "  how it ended is unknown: nobody was there to see"
        else:
            asked = ", as it was asked to" if last.get("asked") else ""
            yield f"  it ended with {_code(item.exit_code, item.oom_killed)}{asked}"
        then = str(last.get("then") or "")
        if item.state == "restarting":
            loop = ": a crash loop" if last.get("crash_loop") else ""
            yield f"  it is started again by its restart policy `{item.record.restart.get('condition')}`{loop}"
            if item.back_off is not None:
                yield f"  it is {item.back_off.phrase(self._now).removeprefix('a crash loop, ')}"
        elif then and not last.get("asked"):
            yield f"  it stays so: {then}"

    def _job(self, item: inventory.Container) -> Iterator[str]:
        """Of one that ended well by itself: what the next `up` does with it."""
        project = self._project
        environment = desired.Environment(
            project=project.canonical, directory=project.identity.directory, config_files=(), scale={}
        )
        mine = item.record.service in jobs.find(environment)
        if not mine or item.exit_code != 0 or record.stopped_by_user(project.where, item.record.id):
            return
        family = [each.record for each in self._containers]
        changed = jobs.changed(project.where, environment, item.record, family)
        then = f"runs it again: {changed}" if changed else "leaves it: nothing that it is made of has changed"
        yield f"  it is a job that is done once; the next `up` {then}"

    def _health(self, item: inventory.Container) -> Iterator[str]:
        found = record.health(self._project.where, item.record.id)
        streak = int(found.get("failing_streak") or 0)
        for probe in (found.get("log") or [])[-1:]:
            said = str(probe.get("output") or "").strip() or f"exit code {probe.get('exit_code')}"
            yield f"  its check failed {_times(streak)} in a row, last {self._ago(probe['end'])}: {said}"

    def failures(self, service: str) -> Iterator[str]:
        found = self._last("operation", service=service)
        if found and found.get("error"):
            yield f"  {found['type']} failed {self._ago(found['time'])}: {found['error']}"

    def waits(self, service: str) -> Iterator[str]:
        """What keeps it: by the supervisor's word while it waits, else what of its dependencies does not hold now."""
        held = holds.read(self._project.where, self._project.identity.id).get(service)
        for reason in held or self._unmet(service):
            yield f"  it {reason.phrase(self._now)}"

    def unstarted(self, since: float) -> str:
        """Nothing keeps it now. What did, when it was made?"""
        failed = [each for each in self._entries if each.get("error") and each.get("time", 0.0) >= since]
        if not failed:
            return "  it was never started; `devenv up` does so"
        last = failed[-1]
        return f"  it was not started, {self._ago(last['time'])}: {last['error']}; `devenv up` tries again"

    def _unmet(self, service: str) -> Iterator[reasons.Reason]:
        for name, terms in sorted((self._project.canonical["services"][service].get("depends_on") or {}).items()):
            condition = waiting.Condition(terms.get("condition") or waiting.Condition.STARTED)
            others = [each for each in self._containers if each.record.service == name and not each.record.oneoff]
            verdict = waiting.judge(condition, [self._seen(each) for each in others])
            if not verdict.met:
                yield reasons.dependency(name, condition, verdict.reason)

    def _seen(self, item: inventory.Container) -> waiting.Seen:
        failing = inventory.failing(self._project.where, item)
        return waiting.Seen(
            name=item.record.name,
            status={"exited": "stopped"}.get(item.state, item.state),
            exit_code=item.exit_code,
            health=failing.health,
            last_output=failing.last,
            gave_up=item.state == "exited",
            failed=failing.failed,
            retries=failing.retries,
            back_off=item.back_off,
        )

    def _events(self, name: str, action: str) -> list[journal.Entry]:
        return [
            each
            for each in self._entries
            if each.get("kind") == "event" and each.get("container") == name and each.get("action") == action
        ]

    def _last(self, kind: str, **fields: Any) -> journal.Entry | None:
        for entry in reversed(self._entries):
            if entry.get("kind") == kind and all(entry.get(name) == value for name, value in fields.items()):
                return entry
        return None


def _last_words(item: inventory.Container, count: int) -> Iterator[str]:
    found = list(logs.read(item.folder, tail=count)) if count > 0 else []
    if found:
        yield "  its last words:"
    for line in found:
        yield f"    {line.data.decode(errors='replace').rstrip()}"


def _code(code: int | None, oom: bool | None) -> str:
    if code is None:
        return "a code that nobody saw"
    if oom:
        return f"exit code {code}: the kernel killed it, for it ran out of memory (`mem_limit`)"
    if code > 128:
        try:
            return f"exit code {code}: signal {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    words = {126: "the command can't be executed", 127: "the command isn't there"}
    return f"exit code {code}" + (f": {words[code]}" if code in words else "")


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
