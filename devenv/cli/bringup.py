"""The request that ``up``, ``create``, ``scale`` and ``plan`` share: take the machine to what the spec says."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from devenv.cli import context, operate, options
from devenv.cli.display import sink
from devenv.spec import lockfile


class Wishes(NamedTuple):
    services: tuple[str, ...] = ()
    recreate: str = "diverged"  # diverged, force or never
    recreate_deps: bool = False  # force those that the named services depend on, too
    no_deps: bool = False
    no_start: bool = False
    remove_orphans: bool = False
    scale: dict[str, int] = {}  # noqa: RUF012  never changed
    wait: bool = False
    wait_timeout: float | None = None
    timeout: float | None = None
    renew_volumes: bool = False
    dry_run: bool = False
    pull: str = ""  # in place of each service's `pull_policy`
    quiet_pull: bool = False
    frozen: bool = False  # use the lock as it is


def params(given: options.Globals, project: context.Loaded, wishes: Wishes) -> dict[str, Any]:
    values = wishes._asdict()
    values["services"] = list(wishes.services)
    values["dry_run"] = wishes.dry_run or given.dry_run
    values["project"] = project.canonical
    values["disabled"] = list(project.spec.disabled_services)
    values["config_files"] = list(project.files)
    values["parallel"] = given.parallel
    # Logins and proxies are the asking command's, not those of whoever started the supervisor.
    values["environ"] = dict(os.environ)
    # The supervisor reads it, too; what is wrong with it is shown with its place only from here.
    lockfile.load(project.identity.directory)
    return values


def bring_up(given: options.Globals, project: context.Loaded, wishes: Wishes, *, title: str) -> dict[str, Any]:
    """Do it, or with ``--dry-run`` print the plan."""
    supervisor = operate.ensure(project)
    show = sink.choose(given)
    result = operate.request(supervisor, "up", params(given, project, wishes), show=show, title=title)
    answer: dict[str, Any] = result or {}
    if given.dry_run:
        print(answer.get("plan", ""), end="")
    return answer
