"""Asking a project's supervisor to change something, and showing what it reports meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol

from devenv import errors, events
from devenv.cli import settings
from devenv.cli.display import sink
from devenv.util import identity, paths


class Supervisor(Protocol):
    """What commands use of ``devenv.supervisor.client.Supervisor``."""

    def call(self, op: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]: ...


class Project(Protocol):
    """What ``context.Loaded`` and ``context.Found`` have in common."""

    @property
    def identity(self) -> identity.Project: ...

    @property
    def where(self) -> paths.Paths: ...


def ensure(project: Project) -> Supervisor:
    """The project's supervisor, started if need be."""
    from devenv.supervisor import client

    return client.Supervisor.ensure(project.identity, project.where)


def request(
    supervisor: Supervisor, op: str, params: dict[str, Any], *, show: sink.Display, title: str | None = None
) -> Any:
    """The result of ``op``. A Ctrl-C closes the connection, which makes the supervisor stop halfway, cleanly."""
    result: Any = None
    show.start(title or op)
    messages = supervisor.call(op, params)
    try:
        for message in messages:
            if "event" in message:
                show.show(events.Event.from_json(message["event"]))
            elif "result" in message:
                result = message["result"]
    finally:
        close = getattr(messages, "close", None)
        if close is not None:
            close()
        show.finish()
    return result


def perform(given: settings.Globals, project: Project, op: str, params: dict[str, Any], **more: Any) -> Any:
    """``request`` for a command that does one thing."""
    refuse_dry_run(given, op)
    return request(ensure(project), op, params, show=sink.choose(given), **more)


def refuse_dry_run(given: settings.Globals, op: str) -> None:
    """Doing it after all would be the worst answer to `--dry-run`."""
    if given.dry_run:
        raise errors.UsageError(
            f"`--dry-run` is not built yet for `{op}`", hint="`up`, `create`, `scale` and `down` understand it"
        )


def is_known(project: Project) -> bool:
    """Whether anything of the project is on disk, so that there is something to ask a supervisor about."""
    where, project_id = project.where, project.identity.id
    from devenv.reconcile import record

    if record.load_all(where, project_id):
        return True
    folders = (where.networks(project_id), where.volumes(project_id), where.project_data(project_id))
    return any(os.path.isdir(folder) and os.listdir(folder) for folder in folders)


def scales(values: list[str] | None) -> dict[str, int]:
    """``web=3`` of ``--scale`` and ``scale``."""
    result: dict[str, int] = {}
    for value in values or ():
        service, sign, number = value.partition("=")
        if not service or not sign or not number.isascii() or not number.isdecimal():
            raise errors.UsageError(f"`{value}` is not of the form SERVICE=N", hint="write for instance `web=3`")
        result[service] = int(number)
    return result


def exclusive(**flags: bool) -> None:
    """Refuse two of ``flags`` at once; their names are those of the options, with underscores."""
    given = [f"`--{name.replace('_', '-')}`" for name, is_set in flags.items() if is_set]
    if len(given) > 1:
        raise errors.UsageError(f"{given[0]} and {given[1]} exclude each other")
