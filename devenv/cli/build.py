"""``devenv build``: the images of services, with docker compose's flags."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import bake, context, frontend, operate, options, settings, terminal
from devenv.reconcile import building

Given = Annotated[list[str] | None, typer.Option("--build-arg", metavar="KEY=VALUE", help="Set an ARG")]


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    build_arg: Given = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do every step again")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Look for newer images to build upon")] = False,
    push: Annotated[bool, typer.Option("--push", help="Push what was built")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; print the ids of what was built")] = False,
    ssh: Annotated[
        str, typer.Option("--ssh", metavar="ID[=KEY]", help="Agent or keys for `RUN --mount=type=ssh`")
    ] = "",
    with_dependencies: Annotated[
        bool, typer.Option("--with-dependencies", help="Also the services they depend on")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only look for what is worth a warning")] = False,
    printed: Annotated[
        bool, typer.Option("--print", help="Print a file for `docker buildx bake`, and build nothing")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Open a shell where a step fails")] = False,
    frozen: options.Frozen = False,
    progress: Annotated[
        settings.Progress | None, typer.Option(help="How progress is shown", show_default=False)
    ] = None,
    provenance: Annotated[str, typer.Option("--provenance", metavar="MODE", help="Not written yet")] = "",
    sbom: Annotated[str, typer.Option("--sbom", metavar="MODE", help="Not written yet")] = "",
    memory: Annotated[str, typer.Option("--memory", "-m", metavar="SIZE", help="No effect, as with BuildKit")] = "",
    builder: Annotated[str, typer.Option("--builder", metavar="NAME", help="There is one: devenv itself")] = "",
    parallel: Annotated[bool, typer.Option("--parallel/--no-parallel", hidden=True)] = True,
    compress: Annotated[bool, typer.Option("--compress/--no-compress", hidden=True)] = True,
    force_rm: Annotated[bool, typer.Option("--force-rm/--no-force-rm", hidden=True)] = True,
    no_rm: Annotated[bool, typer.Option("--no-rm", hidden=True)] = False,
) -> int:
    """Build the images of services that have a `build`."""
    given: settings.Globals = ctx.obj
    if progress is not None:
        given = given._replace(progress=progress)
    for name in services or ():
        if name in {".", ".."} or "/" in name:
            raise errors.UsageError(f"`{name}` is no service", hint=f"to build a folder: devenv image build {name}")
    for option, value in (("--provenance", provenance), ("--sbom", sbom)):
        if value.lower() not in {"", "false"}:
            terminal.warn(f"`{option}` has no effect: devenv writes no attestations")
    if memory:
        terminal.warn("`--memory` has no effect, as with BuildKit; `ulimits` of `build:` has")
    project = context.load(given, services)
    names = project.with_dependencies(services) if with_dependencies else project.chosen(services)
    wishes = building.Wishes(
        arguments=building.arguments(build_arg or ()),
        ssh=(ssh,) if ssh else (),
        no_cache=no_cache,
        pull=pull,
        push=push,
        debug=debug,
        environ=dict(os.environ),
    )
    if printed:
        from devenv.cli import building as builds

        print(json.dumps(bake.document(builds.plan(project, names, wishes).requests), indent=2))
        return 0
    if check:
        from devenv.cli import building as builds

        planned = builds.plan(project, names, wishes)
        return frontend.call("check", list(planned.requests.values()))
    operate.refuse_dry_run(given, "build")
    return _build(given, project, names, wishes, quiet=quiet, frozen=frozen)


def _build(
    given: settings.Globals,
    project: context.Loaded,
    names: list[str],
    wishes: building.Wishes,
    *,
    quiet: bool,
    frozen: bool,
) -> int:
    from devenv.cli import building as builds

    services = project.canonical["services"]
    for name in names:
        for note in building.notes(name, services[name]):
            terminal.warn(note)
    if not any(building.is_built(services[name]) for name in names):
        terminal.warn("no service has a `build`")
        return 0
    with builds.Site(given, quiet=quiet) as site:
        built = builds.build(site, project, names, wishes, frozen=frozen)
        site.say(list(built.items()))
        if quiet:
            print("".join(f"{each.id}\n" for each in built.values()), end="")
    return 0
