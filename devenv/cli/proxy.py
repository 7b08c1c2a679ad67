"""``devenv proxy``: `https://SERVICE.PROJECT.localhost` for all projects of a user, by one process."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from devenv import errors
from devenv.cli import extras, listing, terminal
from devenv.proxy import daemon, routes, table
from devenv.util import paths

if TYPE_CHECKING:
    from devenv.proxy import trust

COLUMNS = {"URL": "URL", "SERVICE": "Service", "PORT": "Port", "STATUS": "Status", "FOLDER": "Folder"}


def start(
    ctx: typer.Context,
    *,
    https: Annotated[
        int | None,
        typer.Option("--https", metavar="PORT", min=0, max=65535, help="443, or 8443 where that can't be had"),
    ] = None,
    http: Annotated[
        int | None, typer.Option("--http", metavar="PORT", min=0, max=65535, help="80, or 8080 likewise; 0: any")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Serve over HTTP, too, in place of leading to HTTPS")] = False,
    no_http: Annotated[bool, typer.Option("--no-http", help="Listen for HTTPS alone")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background")] = False,
) -> None:
    """Run the proxy: until Ctrl-C, or in the background."""
    del ctx
    extras.need("proxy", "aiohttp", "cryptography", what="the proxy")
    from devenv.proxy import authority

    if no_http and (plain or http is not None):
        raise errors.UsageError("`--no-http` goes with neither `--http` nor `--plain`")
    where = paths.locate()
    before = daemon.find(where)
    if before is not None and detach and https is None and http is None and not plain and not no_http:
        terminal.warn("the proxy runs already")
        _tell(before)
        return
    with daemon.claimed(where) as held:
        tls, why = daemon.listen(https, daemon.HTTPS)
        notes = [why]
        clear = None
        if not no_http:
            clear, why = daemon.listen(http, daemon.HTTP)
            notes.append(why)
        for note in filter(None, notes):
            terminal.warn(note)
        made, is_new = authority.ensure(daemon.authority_folder(where))
        if is_new:
            terminal.warn(f"made the certificate authority `{made.name}`: `devenv proxy trust` has browsers accept it")
        settings = daemon.Settings(tls.port, clear.port if clear else 0, not plain)
        if detach:
            _tell(daemon.enroll(where, daemon.detached(where, settings, tls, clear, held), settings))
        else:
            _foreground(where, settings, tls, clear)


def _foreground(
    where: paths.Paths, settings: daemon.Settings, https: daemon.Listening, http: daemon.Listening | None
) -> None:
    from devenv.proxy import server

    def ready() -> None:
        _tell(daemon.enroll(where, os.getpid(), settings))

    sockets = http.sockets if http else ()
    try:
        asyncio.run(server.serve(where, settings, https=https.sockets, http=sockets, ready=ready))
    finally:
        daemon.forget(where)


def _base(running: daemon.Running | None) -> str:
    port = running.https if running is not None else daemon.HTTPS[0]
    return "" if port == daemon.HTTPS[0] else f":{port}"


def _tell(running: daemon.Running) -> None:
    print(f"https://{routes.DOMAIN}{_base(running)}", flush=True)


def stop(ctx: typer.Context) -> None:
    """Stop the proxy."""
    del ctx
    where = paths.locate()
    running = daemon.find(where)
    if running is None:
        raise errors.UsageError("the proxy does not run", hint="`devenv proxy start -d`")
    daemon.stop(where, running)


def ls(ctx: typer.Context, *, format: listing.Format = "table") -> None:
    """List what is reached through the proxy, and where."""
    del ctx
    where = paths.locate()
    running = daemon.find(where)
    known = table.read(where)
    rows = []
    for project in known.projects:
        for service in project.services:
            up = any(table.locate(where, each) is not None for each in service.instances)
            host = known.host_of(project, service)
            rows.append(
                {
                    "URL": f"https://{host}{_base(running)}" if service.port else "-",
                    "Project": project.name,
                    "Service": service.name,
                    "Port": service.port or "-",
                    "Status": ("running" if up else "not running") if service.port else "no HTTP port",
                    "Folder": project.directory,
                }
            )
    listing.show(rows, format, COLUMNS)
    if running is None:
        terminal.warn("the proxy does not run: `devenv proxy start -d`")


def status(
    ctx: typer.Context,
    *,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text or json")] = "text",
) -> None:
    """Show whether the proxy runs, and who trusts its certificates."""
    del ctx
    if format not in {"text", "json"}:
        raise errors.UsageError(f"`--format {format}` is not understood; it is text or json")
    where = paths.locate()
    running = daemon.find(where)
    found: dict[str, object] = {
        "Status": "not running" if running is None else "running",
        "Pid": running.pid if running else 0,
        "HTTPS": running.https if running else 0,
        "HTTP": running.http if running else 0,
        "Redirects": running.redirect if running else False,
        **_of_authority(where),
    }
    if format == "json":
        print(json.dumps(found))
        return
    for name, value in found.items():
        text = (", ".join(map(str, value)) or "nobody") if isinstance(value, list) else str(value)
        if value or text == "nobody":
            print(f"{name + ':':13}{text}")


def _of_authority(where: paths.Paths) -> dict[str, object]:
    if importlib.util.find_spec("cryptography") is None:
        return {"Authority": "", "Certificate": "", "SHA256": "", "Until": "", "TrustedBy": []}
    from devenv.proxy import authority, trust

    folder = daemon.authority_folder(where)
    made = authority.load(folder)
    return {
        "Authority": made.name if made else "",
        "Certificate": authority.path(folder) if made else "",
        "SHA256": made.fingerprint if made else "",
        "Until": f"{made.certificate.not_valid_after_utc:%Y-%m-%d}" if made else "",
        "TrustedBy": trust.trusted_by(made.name) if made else [],
    }


def trust_command(ctx: typer.Context) -> None:
    """Have this machine and its browsers trust the proxy's certificates."""
    del ctx
    extras.need("proxy", "aiohttp", "cryptography", what="the proxy")
    from devenv.proxy import authority, trust

    folder = daemon.authority_folder(paths.locate())
    made, _ = authority.ensure(folder)
    _report(trust.trust(made.name, authority.path(folder)), "trusted by", "to be trusted by the rest, run:")


def untrust_command(ctx: typer.Context) -> None:
    """Undo `trust`."""
    del ctx
    extras.need("proxy", "aiohttp", "cryptography", what="the proxy")
    from devenv.proxy import authority, trust

    made = authority.load(daemon.authority_folder(paths.locate()))
    if made is None:
        raise errors.UsageError("there is no certificate authority that anybody could trust")
    _report(trust.untrust(made.name), "no longer trusted by", "for the rest, run:")


def _report(outcome: trust.Outcome, done: str, left: str) -> None:
    for each in outcome.done:
        print(f"{done} {each}")
    if outcome.left:
        print(left)
        print("".join(f"  {line}\n" for line in outcome.left), end="")
    if outcome.failed:
        raise errors.HostError(outcome.failed[0], note="\n".join(outcome.failed[1:]) or None)
