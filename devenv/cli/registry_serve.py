"""``devenv registry serve``: a registry for the local network, in the foreground until Ctrl-C or in the background."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from devenv import errors
from devenv.cli import attached, terminal
from devenv.util import paths

if TYPE_CHECKING:
    from devenv.image.registry import served, serving

LISTEN = "127.0.0.1:5000"


def command(
    ctx: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS:PORT", help=f"Where it answers; {LISTEN} if none")
    ] = "",
    data: Annotated[str, typer.Option("--data", metavar="DIR", help="Where it keeps the images")] = "",
    name: Annotated[str, typer.Option("--name", metavar="HOST", help="What others call this machine")] = "",
    user: Annotated[str, typer.Option("--user", "-u", metavar="NAME", help="Who may use it; with a new password")] = "",
    htpasswd: Annotated[str, typer.Option("--htpasswd", metavar="FILE", help="Who may use it")] = "",
    tls_cert: Annotated[str, typer.Option("--tls-cert", metavar="FILE", help="Certificate")] = "",
    tls_key: Annotated[str, typer.Option("--tls-key", metavar="FILE", help="Its key")] = "",
    self_signed: Annotated[bool, typer.Option("--self-signed", help="With a certificate made for it")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="In the background; goes on as before it ended")
    ] = False,
) -> None:
    """Run a registry for this machine or the local network, by docker-registry."""
    from devenv.image.registry import served, serving

    del ctx
    where = paths.locate()
    folder = os.path.abspath(data or f"{where.data}/registry")
    before = served.find(where, folder)
    if detach and before is not None and not any((listen, name, user, htpasswd, tls_cert, tls_key, self_signed)):
        wanted = before
    else:
        if bool(tls_cert) != bool(tls_key) or (self_signed and tls_cert) or (user and htpasswd):
            raise errors.UsageError("give `--tls-cert` with `--tls-key`, or `--self-signed`; `--user` or `--htpasswd`")
        for path in filter(None, (htpasswd, tls_cert, tls_key)):
            if not os.access(path, os.R_OK):
                raise errors.UsageError(f"`{path}` can't be read")
        files = (os.path.abspath(each) if each else "" for each in (htpasswd, tls_cert, tls_key))
        settings = serving.Served(folder, *serving.listen(listen or LISTEN), *files)
        _check_open(settings, tls=bool(tls_cert) or self_signed, login=bool(user or htpasswd))
        wanted = served.Record(_called(settings, name), settings, user, self_signed)
    serving.program()
    if detach and before is not None and before.runs and before.same(wanted):
        terminal.warn(f"registry `{before.registry}` runs already")
        _tell(before, "")
        return
    with attached.gentle_end(threading.Event()), serving.claimed(folder) as held:
        password = _prepare(wanted)
        ready = wanted._replace(served=_files(wanted))
        if detach:
            served.keep(where, wanted, serving.detached(ready.served, held))
            _tell(ready, password)
            return
        with serving.running(ready.served) as process:
            served.keep(where, wanted, process.pid)
            try:
                _tell(ready, password)
                code = process.wait()
            finally:
                served.forget(where, folder)
    raise errors.HostError(f"the registry ended with exit code {code}")


def _check_open(settings: serving.Served, *, tls: bool, login: bool) -> None:
    if settings.local:
        return
    if not tls:
        raise errors.UsageError(
            f"`{settings.host}:{settings.port}` can be reached from elsewhere, which takes TLS",
            hint="`--self-signed`, or `--tls-cert FILE --tls-key FILE`; and `--user NAME` for a login",
        )
    if not login:
        terminal.warn("whoever reaches this registry may read and write it: `--user NAME` asks for a login")


def _called(settings: serving.Served, name: str) -> str:
    from devenv.image.registry import hosts

    any_address = settings.host in {"0.0.0.0", "::"}
    return f"{hosts.name(name or (socket.gethostname() if any_address else settings.host))}:{settings.port}"


def _prepare(wanted: served.Record) -> str:
    """The password of a user who is new, else ""."""
    from devenv.image.registry import serving

    if not wanted.user or serving.knows(wanted.served.folder, wanted.user):
        return ""
    password = secrets.token_urlsafe(15)
    serving.add_user(wanted.served.folder, wanted.user, password)
    return password


def _files(wanted: served.Record) -> serving.Served:
    """With the logins and the certificate that are made for it."""
    from devenv.image.registry import serving

    ready = wanted.served
    if wanted.user:
        ready = ready._replace(htpasswd=f"{ready.folder}/htpasswd")
    if wanted.self_signed:
        certificate, key = serving.certificate(ready.folder, wanted.registry.rpartition(":")[0])
        ready = ready._replace(certificate=certificate, key=key)
    return ready


def _tell(ready: served.Record, password: str) -> None:
    """What one does on each machine that is to use it."""
    registry, user = ready.registry, ready.user
    if ready.self_signed:
        certificate = _files(ready).certificate
        folder = f"~/.config/devenv/certs.d/{registry}"
        print(f"mkdir -p {folder}  # and copy {shlex.quote(certificate)} to {folder}/ca.crt")
    if user:
        told = f"password: {password}" if password else "the password as before"
        print(f"devenv registry login {registry} -u {shlex.quote(user)}  # {told}")
    print(f"devenv image tag IMAGE {registry}/IMAGE && devenv image push {registry}/IMAGE", flush=True)
