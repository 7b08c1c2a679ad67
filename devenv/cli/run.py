"""``devenv run``: a container of its own for one command, on the terms of a service.

The supervisor makes the container, which waits; this process attaches to it through the monitor and only then lets
it go, so that not a byte is missed. With a terminal its pty is joined to the caller's; without, stdout and stderr
stay two streams, byte for byte, and stdin goes in until it ends.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import attachment, bringup, context, operate, options, secretcommands, terminal
from devenv.cli.display import sink
from devenv.reconcile import building
from devenv.spec import lockfile


def command(
    ctx: typer.Context,
    *,
    service: options.Service,
    words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND] [ARGS]...", show_default=False)] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the container's name and return")] = False,
    rm: Annotated[bool, typer.Option("--rm", help="Remove the container when it has ended")] = False,
    env: options.EnvVars = None,
    env_from_file: Annotated[
        list[str] | None, typer.Option("--env-from-file", metavar="FILE", help="Environment variables from a file")
    ] = None,
    entrypoint: Annotated[
        str | None, typer.Option("--entrypoint", metavar="COMMAND", help="In place of the image's")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Label to add")] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the container")] = "",
    no_deps: options.NoDeps = False,
    publish: Annotated[
        list[str] | None, typer.Option("--publish", "-p", metavar="PORT", help="Publish a port, as in `ports:`")
    ] = None,
    service_ports: Annotated[
        bool, typer.Option("--service-ports", "-P", help="Publish the service's own ports")
    ] = False,
    use_aliases: Annotated[bool, typer.Option("--use-aliases", help="Answer to the service's names")] = False,
    user: options.User = "",
    volume: Annotated[list[str] | None, typer.Option("--volume", "-v", metavar="MOUNT", help="Mount to add")] = None,
    workdir: options.Workdir = "",
    cap_add: Annotated[list[str] | None, typer.Option("--cap-add", metavar="CAP", help="Capability to add")] = None,
    cap_drop: Annotated[list[str] | None, typer.Option("--cap-drop", metavar="CAP", help="Capability to drop")] = None,
    no_tty: options.NoTty = False,
    interactive: Annotated[bool, typer.Option("--interactive/--no-interactive", "-i", help="Keep stdin open")] = True,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="A terminal; the default when there is one")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress")] = False,
    remove_orphans: options.RemoveOrphans = False,
    build: options.Build = False,
    pull: options.Pull = "",
    quiet_pull: options.QuietPull = False,
    frozen: options.Frozen = False,
    quiet_build: options.QuietBuild = False,
) -> int:
    """Run a one-off command on a service; options come before the service's name."""
    from devenv.cli import up

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "run")
    operate.exclusive(publish=bool(publish), service_ports=service_ports)
    operate.exclusive(tty=tty, no_tty=no_tty)
    up.check_images(build=build, pull=pull)
    project = context.load(given, [service])
    project.check_services([service])
    lockfile.load(project.identity.directory)
    bringup.build(
        given,
        project,
        bringup.Wishes(services=(service,), no_deps=no_deps),
        bringup.Building(build, False, pull, quiet_pull or quiet, quiet_build or quiet, frozen),
    )
    has_terminal = terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout)
    wants_tty = not no_tty and not detach and (tty or has_terminal)
    params = {
        "project": building.named(secretcommands.filled(project.canonical, project.identity.directory)),
        "config_files": list(project.files),
        "service": service,
        "command": list(words or ()) or None,
        "entrypoint": entrypoint,
        "environment": environment(env, env_from_file),
        "labels": labels(label),
        "name": name or None,
        "no_deps": no_deps,
        "ports": list(publish or ()),
        "service_ports": service_ports,
        "use_aliases": use_aliases,
        "user": user or None,
        "volumes": list(volume or ()),
        "working_dir": workdir or None,
        "cap_add": list(cap_add or ()),
        "cap_drop": list(cap_drop or ()),
        "tty": wants_tty,
        "stdin_open": interactive and not detach,
        "remove_orphans": remove_orphans,
        "detach": detach,
        "auto_remove": rm and detach,
        # Attached, the container is made and waits for `run_start`.
        "start": detach,
        "pull": pull,
        "quiet_pull": quiet_pull,
        "frozen": frozen,
        "environ": dict(os.environ),
    }
    supervisor = operate.ensure(project)
    shown = given._replace(progress=options.Progress.QUIET) if quiet else given
    result = operate.request(supervisor, "run", params, show=sink.choose(shown))
    if detach:
        print(result["name"])
        return 0
    container_id = str(result["id"])
    try:
        return attachment.run(project, supervisor, container_id, tty=wants_tty, interactive=interactive)
    finally:
        if rm:
            silent = sink.choose(given._replace(progress=options.Progress.QUIET))
            operate.request(supervisor, "remove", {"ids": [container_id], "volumes": True}, show=silent)


def environment(values: list[str] | None, files: list[str] | None = None) -> dict[str, str | None]:
    """``KEY=VALUE`` as it stands; ``KEY`` alone is taken from our own environment, or unset there and so here."""
    found: dict[str, str | None] = {}
    for path in files or ():
        _read_env_file(path, found)
    for text in values or ():
        key, sign, value = text.partition("=")
        if not key:
            raise errors.UsageError(f"`--env {text}` has no name", hint="write KEY=VALUE")
        if sign:
            found[key] = value
        elif key in os.environ:
            found[key] = os.environ[key]
    return found


def _read_env_file(path: str, found: dict[str, str | None]) -> None:
    from devenv.spec import dotenv

    values: dict[str, str] = {}
    dotenv.read_file(path, values, os.environ.get)
    found.update(values)


def labels(values: list[str] | None) -> dict[str, str]:
    pairs = (text.partition("=") for text in values or ())
    return {key: value for key, _, value in pairs}
