"""``devenv registry ls`` and ``stop``: the registries that are served from this machine by its user."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv import errors
from devenv.cli import listing, report
from devenv.image.registry import served
from devenv.util import paths

COLUMNS = {
    "REGISTRY": "Name",
    "STATUS": "Status",
    "LISTENS ON": "Listen",
    "TLS": "TLS",
    "LOGIN": "Login",
    "DATA": "Data",
}


def command(ctx: typer.Context, *, format: listing.Format = "table") -> None:
    """List the registries that are served from here."""
    del ctx
    rows = [
        {
            "Name": each.registry,
            "Status": "running" if each.runs else "exited",
            "Listen": f"{each.served.host}:{each.served.port}",
            "TLS": "self-signed" if each.self_signed else "yes" if each.served.certificate else "no",
            "Login": each.user or ("yes" if each.served.htpasswd else "no"),
            "Data": each.served.folder,
            "Pid": each.pid if each.runs else 0,
        }
        for each in served.every(paths.locate())
    ]
    listing.show(rows, format, COLUMNS)


def stop(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="As `ls` shows it", show_default=False)] = "",
) -> None:
    """Stop a registry. Its images stay, for the next `serve` of the same folder."""
    del ctx
    where = paths.locate()
    every = served.every(where)
    known = [each.registry for each in every]
    found = [each for each in every if not name or name in {each.registry, each.served.folder}]
    if not found:
        hint = (report.did_you_mean(name, known) if name else None) or "`devenv registry ls` lists them"
        raise errors.UsageError(f"no registry `{name}` is served" if name else "no registry is served", hint=hint)
    if len(found) > 1:
        folders = ", ".join(f"`{each.served.folder}`" if name else f"`{each.registry}`" for each in found)
        raise errors.UsageError(f"{len(found)} registries are served", hint=f"say which: {folders}")
    served.stop(where, found[0])
    print(found[0].registry)
