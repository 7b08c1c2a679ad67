"""Secrets of a request, read when somebody needs one and kept nowhere."""

from __future__ import annotations

from devenv import errors
from devenv.build import request


def find(given: request.Request, name: str) -> bytes | None:
    """None if nobody gave it. Raises ``BuildError`` for a file that can't be read."""
    found = next((each for each in given.secrets if each.id == name), None)
    if found is None:
        return None
    if found.value is not None:
        return found.value
    if found.variable:
        value = given.environ.get(found.variable)
        return None if value is None else value.encode("utf-8", "surrogateescape")
    try:
        with open(found.path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise errors.BuildError(f"the secret `{name}`: `{found.path}` can't be read: {exc.strerror}") from exc
