"""Credential helpers: programs ``docker-credential-NAME`` that keep secrets where Docker's own file should not have
them. ``get`` takes the server's address on its standard input and prints a JSON object."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from devenv.image.registry import errors

_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_PATIENCE = 60.0  # it may ask for a passphrase
_UNKNOWN = ("credentials not found", "not found in native keychain", "no credentials server url")


class Answer(NamedTuple):
    username: str
    secret: str


def get(name: str, server: str, environ: Mapping[str, str], *, required: bool) -> Answer | None:
    """None when the helper knows nothing of the server, or, unless ``required``, isn't installed: a store for all
    registries that Docker Desktop has left behind must not keep public images away."""
    if not _NAME.fullmatch(name):
        raise errors.RegistryError(f"`{name[:100]}` is no credential helper's name")
    program = shutil.which(f"docker-credential-{name}", path=environ.get("PATH"))
    if program is None:
        if not required:
            return None
        raise errors.RegistryError(
            f"the credential helper `docker-credential-{name}` for `{server}` is not installed",
            hint="install it, or remove its line from `credHelpers` in ~/.docker/config.json",
        )
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            env=dict(environ),
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise errors.RegistryError(f"`{program} get` gives no answer: {exc}") from exc
    said = (done.stdout + b"\n" + done.stderr).decode(errors="replace").strip()
    if done.returncode != 0:
        if any(text in said.lower() for text in _UNKNOWN):
            return None
        raise errors.RegistryError(f"`{program} get` failed for `{server}`", note=said[:1000] or None)
    try:
        given = json.loads(done.stdout)
        answer = Answer(str(given["Username"]), str(given["Secret"]))
    except (ValueError, KeyError, TypeError) as exc:
        # What it said may be the secret: it is not shown.
        raise errors.RegistryError(f"`{program} get` gives something that is no credential") from exc
    return answer if answer.secret else None
