"""``devenv registry login`` and ``logout``: as ``docker login``, in a file of devenv's own."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import terminal

Server = Annotated[str, typer.Argument(metavar="[SERVER]", help="Registry; Docker Hub if none", show_default=False)]


def command(
    ctx: typer.Context,
    *,
    server: Server = "docker.io",
    username: Annotated[str, typer.Option("--username", "-u", metavar="NAME", help="Username")] = "",
    password: Annotated[str, typer.Option("--password", "-p", metavar="TEXT", help="Password or access token")] = "",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin")] = False,
) -> None:
    """Log in to a registry."""
    from devenv.image.registry import client, credentials, hosts

    del ctx
    registry = hosts.name(server)
    if password and password_stdin:
        raise errors.UsageError("`--password` and `--password-stdin` exclude each other")
    if password_stdin and not username:
        raise errors.UsageError("`--password-stdin` needs `--username`")
    if password:
        terminal.warn("`--password` on a command line can be read by others: use `--password-stdin`")
    username = username or _ask("Username: ")
    if password_stdin:
        password = sys.stdin.read().rstrip("\r\n")
    password = password or _ask("Password: ", secret=True)
    given = credentials.Credential(username, password)
    talk = client.Client(os.environ)
    try:
        talk.check_login(registry, given)
    finally:
        talk.close()
    path = credentials.save(registry, given, os.environ)
    print("Login Succeeded")
    print(f"kept unencrypted in {terminal.visible(path)}", file=sys.stderr)


def logout(ctx: typer.Context, *, server: Server = "docker.io") -> None:
    """Forget a login."""
    from devenv.image.registry import credentials, hosts

    del ctx
    registry = hosts.name(server)
    if credentials.forget(registry, os.environ):
        print(f"Removed the login for {registry}")
        return
    other = credentials.find(registry, "", os.environ)
    hint = "a login of Docker or podman is theirs to forget: `docker logout`, `podman logout`" if other else None
    raise errors.UsageError(f"there is no login for `{registry}`", hint=hint)


def _ask(prompt: str, *, secret: bool = False) -> str:
    if not terminal.is_terminal(sys.stdin):
        raise errors.UsageError(
            "there is no terminal to ask for the login", hint="use `--username NAME --password-stdin`"
        )
    try:
        answer = getpass.getpass(prompt) if secret else input(prompt).strip()
    except EOFError:
        answer = ""
    if not answer:
        raise errors.UsageError("nothing was entered")
    return answer
