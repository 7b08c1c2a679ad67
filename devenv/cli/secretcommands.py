"""Configs and secrets that a command of the person's prints: `x-devenv: {command: …}`, run when services are made.

What it prints, all of it, is the content. It goes on to the supervisor and from there to memory; it is written to no
disk and shown by no command.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from devenv import errors

_TIMEOUT = 120.0  # somebody may have to touch a key


def filled(project: Mapping[str, Any], directory: str, *, built: Collection[str] | None = None) -> dict[str, Any]:
    """The project, with the contents of what its services use; with ``built``, of what the builds of these do."""
    found = dict(project)
    for kind in ("configs", "secrets"):
        definitions = project.get(kind) or {}
        values = {
            name: {**definitions[name], "content": _output(kind, name, command, directory)}
            for name, command in _commands(project, kind, built)
        }
        if values:
            found[kind] = {**definitions, **values}
    return found


def _commands(project: Mapping[str, Any], kind: str, built: Collection[str] | None) -> Iterator[tuple[str, Any]]:
    every = project.get("services") or {}
    services = every.values() if built is None else [every[name]["build"] for name in built]
    used = {use["source"] for service in services for use in service.get(kind) or []}
    for name, definition in sorted((project.get(kind) or {}).items()):
        command = (definition.get("x-devenv") or {}).get("command")
        if command and name in used:
            yield name, command


def _output(kind: str, name: str, command: str | list[str], directory: str) -> str:
    what = f"the command of `{kind}.{name}`"
    try:
        done = subprocess.run(
            ["sh", "-c", command] if isinstance(command, str) else command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        reason = "it takes too long" if isinstance(exc, subprocess.TimeoutExpired) else str(exc.strerror)
        raise errors.ContainerError(f"{what} can't be run: {reason}") from None
    if done.returncode:
        raise errors.ContainerError(f"{what} failed with exit code {done.returncode}")
    try:
        return done.stdout.decode()
    except UnicodeDecodeError:
        raise errors.ContainerError(f"{what} printed what is no text", hint="let it print base64") from None
