"""``devenv registry serve``: a registry for the local network, in the foreground until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import threading
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import attached, terminal
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS:PORT", help="Where it answers")
    ] = "127.0.0.1:5000",
    data: Annotated[str, typer.Option("--data", metavar="DIR", help="Where it keeps the images")] = "",
    name: Annotated[str, typer.Option("--name", metavar="HOST", help="What others call this machine")] = "",
    user: Annotated[str, typer.Option("--user", "-u", metavar="NAME", help="Who may use it; with a new password")] = "",
    htpasswd: Annotated[str, typer.Option("--htpasswd", metavar="FILE", help="Who may use it")] = "",
    tls_cert: Annotated[str, typer.Option("--tls-cert", metavar="FILE", help="Certificate")] = "",
    tls_key: Annotated[str, typer.Option("--tls-key", metavar="FILE", help="Its key")] = "",
    self_signed: Annotated[bool, typer.Option("--self-signed", help="With a certificate made for it")] = False,
) -> None:
    """Run a registry for this machine or the local network, by docker-registry."""
    from devenv.image.registry import hosts, serving

    del ctx
    host, port = serving.listen(listen)
    if bool(tls_cert) != bool(tls_key) or (self_signed and tls_cert) or (user and htpasswd):
        raise errors.UsageError("give `--tls-cert` with `--tls-key`, or `--self-signed`; `--user` or `--htpasswd`")
    for path in filter(None, (htpasswd, tls_cert, tls_key)):
        if not os.access(path, os.R_OK):
            raise errors.UsageError(f"`{path}` can't be read")
    folder = os.path.abspath(data or f"{paths.locate().data}/registry")
    wanted = serving.Served(
        folder, host, port, *(os.path.abspath(each) if each else "" for each in (htpasswd, tls_cert, tls_key))
    )
    if not wanted.local and not (tls_cert or self_signed):
        raise errors.UsageError(
            f"`{listen}` can be reached from elsewhere, which takes TLS",
            hint="`--self-signed`, or `--tls-cert FILE --tls-key FILE`; and `--user NAME` for a login",
        )
    if not wanted.local and not (user or htpasswd):
        terminal.warn("whoever reaches this registry may read and write it: `--user NAME` asks for a login")
    called = hosts.name(name or (socket.gethostname() if host in {"0.0.0.0", "::"} else host))
    serving.program()
    with attached.gentle_end(threading.Event()), serving.claimed(folder):
        password = ""
        if user:
            if not serving.knows(folder, user):
                password = secrets.token_urlsafe(15)
                serving.add_user(folder, user, password)
            wanted = wanted._replace(htpasswd=f"{folder}/htpasswd")
        if self_signed:
            certificate, key = serving.certificate(folder, called)
            wanted = wanted._replace(certificate=certificate, key=key)
        with serving.running(wanted) as process:
            _tell(f"{called}:{port}", wanted.certificate if self_signed else "", user, password)
            code = process.wait()
    raise errors.HostError(f"the registry ended with exit code {code}")


def _tell(registry: str, certificate: str, user: str, password: str) -> None:
    """What one does on each machine that is to use it."""
    if certificate:
        folder = f"~/.config/devenv/certs.d/{registry}"
        print(f"mkdir -p {folder}  # and copy {shlex.quote(certificate)} to {folder}/ca.crt")
    if user:
        told = f"password: {password}" if password else "the password as before"
        print(f"devenv registry login {registry} -u {shlex.quote(user)}  # {told}")
    print(f"devenv image tag IMAGE {registry}/IMAGE && devenv image push {registry}/IMAGE", flush=True)
