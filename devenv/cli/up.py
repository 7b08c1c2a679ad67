"""``devenv up``: bring services up; attached, follow their logs and stop them at the end.

Attached means: until every service attached to has ended, or Ctrl-C. The first Ctrl-C stops what this command
brought up, gently and with the logs still flowing; the second one kills it.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from devenv.cli import bringup, context, formats, operate, options


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything has started")] = False,
    wait: options.Wait = False,
    wait_timeout: options.WaitTimeout = None,
    force_recreate: options.ForceRecreate = False,
    no_recreate: options.NoRecreate = False,
    always_recreate_deps: Annotated[
        bool, typer.Option("--always-recreate-deps", help="Recreate dependencies, too")
    ] = False,
    no_deps: options.NoDeps = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Create only")] = False,
    remove_orphans: options.RemoveOrphans = False,
    scale: options.Scale = None,
    abort_on_container_exit: Annotated[
        bool, typer.Option("--abort-on-container-exit", help="Stop everything when a container ends")
    ] = False,
    abort_on_container_failure: Annotated[
        bool, typer.Option("--abort-on-container-failure", help="Stop everything when a container fails")
    ] = False,
    exit_code_from: Annotated[
        str, typer.Option("--exit-code-from", metavar="SERVICE", help="Exit with this service's code, and abort")
    ] = "",
    attach: Annotated[
        list[str] | None, typer.Option("--attach", metavar="SERVICE", help="Only show these services' logs")
    ] = None,
    no_attach: Annotated[
        list[str] | None, typer.Option("--no-attach", metavar="SERVICE", help="Don't show these services' logs")
    ] = None,
    attach_dependencies: Annotated[
        bool, typer.Option("--attach-dependencies", help="Show logs of dependencies, too")
    ] = False,
    no_color: options.NoColor = False,
    no_log_prefix: options.NoLogPrefix = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Show when each line was written")] = False,
    timeout: options.Timeout = None,
    renew_anon_volumes: Annotated[
        bool, typer.Option("--renew-anon-volumes", "-V", help="Begin with empty anonymous volumes")
    ] = False,
    pull: options.Pull = "",
    build: options.Build = False,
    no_build: options.NoBuild = False,
    quiet_pull: options.QuietPull = False,
    frozen: options.Frozen = False,
    quiet_build: options.QuietBuild = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch files, as `develop.watch` says")] = False,
    menu: Annotated[bool, typer.Option("--menu", hidden=True)] = False,
    yes: options.Yes = False,
) -> int:
    """Create and start services, and follow their logs."""
    given: options.Globals = ctx.obj
    operate.exclusive(force_recreate=force_recreate, no_recreate=no_recreate)
    operate.exclusive(always_recreate_deps=always_recreate_deps, no_deps=no_deps)
    aborts = abort_on_container_exit or abort_on_container_failure or bool(exit_code_from)
    operate.exclusive(detach=detach, abort_on_container_exit=abort_on_container_exit)
    operate.exclusive(detach=detach, abort_on_container_failure=abort_on_container_failure)
    operate.exclusive(detach=detach, exit_code_from=bool(exit_code_from))
    operate.exclusive(detach=detach, attach=bool(attach), attach_dependencies=attach_dependencies)
    operate.exclusive(wait=wait, exit_code_from=bool(exit_code_from))
    operate.exclusive(
        abort_on_container_exit=abort_on_container_exit, abort_on_container_failure=abort_on_container_failure
    )
    check_images(build=build, no_build=no_build, pull=pull)
    project = context.load(given, services)
    names = project.check_services(services)
    project.check_services([*(attach or ()), *(no_attach or ()), *([exit_code_from] if exit_code_from else ())])
    limit = formats.seconds_or_duration(wait_timeout, option="--wait-timeout")
    wishes = bringup.Wishes(
        services=tuple(names),
        recreate="force" if force_recreate else "never" if no_recreate else "diverged",
        recreate_deps=always_recreate_deps,
        no_deps=no_deps,
        no_start=no_start,
        remove_orphans=remove_orphans or os.environ.get("COMPOSE_REMOVE_ORPHANS") in {"1", "true"},
        scale=operate.scales(scale),
        wait=wait or limit is not None,
        wait_timeout=limit,
        timeout=formats.seconds_or_duration(timeout, option="--timeout"),
        renew_volumes=renew_anon_volumes,
        pull=pull,
        quiet_pull=quiet_pull,
        frozen=frozen,
        watch="" if not watch or no_start else "background" if detach or wait else "attached",
    )
    bringup.build(
        given,
        project,
        wishes,
        bringup.Building(build, no_build, pull, quiet_pull, quiet_build, frozen),
    )
    if detach or wishes.wait or no_start or given.dry_run:
        bringup.bring_up(given, project, wishes, title="up")
        return 0
    from devenv.cli import attached

    manner = attached.Manner(
        attach=frozenset(attach or ()),
        no_attach=frozenset(no_attach or ()),
        dependencies=attach_dependencies,
        abort="failure" if abort_on_container_failure else "exit" if aborts else "",
        exit_code_from=exit_code_from,
        colour=not no_color,
        prefix=not no_log_prefix,
        timestamps=timestamps,
    )
    return attached.run(given, project, wishes, manner)


def check_images(*, build: bool, no_build: bool = False, pull: str) -> None:
    operate.exclusive(build=build, no_build=no_build)
    if pull:
        options.one_of("--pull", pull, ("always", "missing", "never", "build", "policy"))
