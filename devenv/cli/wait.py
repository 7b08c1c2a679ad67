"""``devenv wait``: block until services have stopped, and print their exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv import errors
from devenv.cli import context, inventory, operate, options, watching


def command(
    ctx: typer.Context,
    *,
    services: Annotated[list[str], typer.Argument(metavar="SERVICE...", show_default=False)],
    down_project: Annotated[
        bool, typer.Option("--down-project", help="Take the project down when the first service stops")
    ] = False,
) -> int:
    """Wait until services stop, print their exit codes, and exit with the last one's."""
    given: options.Globals = ctx.obj
    project = context.find(given)
    names = project.check_services(services)

    def look() -> dict[str, inventory.Container]:
        every = inventory.load(project.where, project.identity.id)
        return {item.record.id: item for item in inventory.of_services(every, names) if not item.record.oneoff}

    waiting = set(look())
    if not waiting:
        raise errors.ContainerError("there is no container to wait for", hint="`devenv up -d` makes them")
    code = 0
    for _ in watching.changes(project):
        seen = look()
        for identifier in sorted(waiting):
            item = seen.get(identifier)
            if item is None:
                waiting.discard(identifier)
            elif item.has_ended or item.state == "created":
                waiting.discard(identifier)
                code = 255 if item.exit_code is None else item.exit_code
                print(code, flush=True)
        if not waiting or (down_project and len(waiting) < len(seen)):
            break
    if down_project:
        operate.perform(given, project, "down", {"services": []})
    return code
