"""The request that ``up``, ``create``, ``scale`` and ``plan`` share: take the machine to what the spec says."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from devenv.cli import context, operate, options, secretcommands
from devenv.cli.display import sink
from devenv.reconcile import building
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
    watch: str = ""  # attached or background: watch files from the start on


class Building(NamedTuple):
    """What flags say of images that are built."""

    build: bool = False
    no_build: bool = False
    pull: str = ""
    quiet_pull: bool = False
    quiet_build: bool = False
    frozen: bool = False


def build(given: options.Globals, project: context.Loaded, wishes: Wishes, how: Building) -> None:
    """Have the images of services that have a `build`, before a supervisor is asked for anything."""
    if building.any_built(project.canonical):
        from devenv.cli import building as builds

        chosen = list(wishes.services)
        names = project.chosen(chosen) if wishes.no_deps else project.with_dependencies(chosen)
        builds.beforehand(given, project, names, how)


def rerun(given: options.Globals, project: context.Loaded) -> list[str]:
    """The folder and the options with which another command means the same project."""
    words = [context.current_folder(), "--project-name", project.identity.name]
    if given.project_directory:
        words += ["--project-directory", os.path.abspath(given.project_directory)]
    for option, values in (("--file", given.files), ("--env-file", given.env_files)):
        for value in values:
            words += [option, os.path.abspath(value)]
    for profile in given.profiles:
        words += ["--profile", profile]
    return words


def params(given: options.Globals, project: context.Loaded, wishes: Wishes) -> dict[str, Any]:
    values = wishes._asdict()
    values["services"] = list(wishes.services)
    values["dry_run"] = wishes.dry_run or given.dry_run
    values["project"] = building.named(secretcommands.filled(project.canonical, project.identity.directory))
    values["disabled"] = list(project.spec.disabled_services)
    values["config_files"] = list(project.files)
    values["sources"] = list(project.sources)
    values["parallel"] = given.parallel
    values["rerun"] = rerun(given, project)
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
