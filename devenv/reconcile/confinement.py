"""Which system calls a service may make: `security_opt`'s word or file, become a profile for its bundle.

Unlike ``convert`` this looks at the machine and reads a file, so it is kept apart from what is pure.
"""

from __future__ import annotations

import hashlib
import os
from typing import Literal

from devenv import errors
from devenv.reconcile import convert
from devenv.runtime import seccomp, seccomp_profile

_DEFAULT: Literal["default"] = "default"


def profile(service: convert.Service, directory: str) -> seccomp_profile.Profile | Literal["default"] | None:
    """As ``bundle.Options`` takes it. Raises ``SpecError`` for a bad file, ``HostError`` when it can't be obeyed."""
    given = convert.security(service).seccomp
    if given == convert.UNCONFINED:
        return None
    if not given:
        return None if seccomp.available() else _DEFAULT
    reason = seccomp.available()
    if reason:
        raise errors.HostError(
            f"the seccomp profile `{given}` can't be used: {reason}",
            hint="write `seccomp:unconfined` to run without it",
        )
    return seccomp_profile.read(_path(given, directory))[0]


def check(name: str, service: convert.Service, directory: str) -> None:
    """Say what is wrong with a profile before anything is touched."""
    try:
        profile(service, directory)
    except errors.SpecError as exc:
        raise errors.SpecError(f"service `{name}`: {exc.message}", hint=exc.hint) from exc


def notes(service: convert.Service, directory: str) -> list[str]:
    """What a user should know of how this service is confined, and would not see."""
    given = convert.security(service).seccomp
    if given == convert.UNCONFINED or (not given and service.get("privileged")):
        return []
    if not given:
        reason = seccomp.available()
        return [f"it may make every system call: {reason}"] if reason else []
    unknown = seccomp_profile.read(_path(given, directory))[1]
    if not unknown:
        return []
    names = ", ".join(f"`{each}`" for each in unknown)
    return [f"the seccomp profile `{given}` names what is no system call and has no effect: {names}"]


def digest(service: convert.Service, directory: str) -> str:
    """Of the profile's content, so that changing it makes the container anew; empty without a file."""
    given = convert.security(service).seccomp
    if not given or given == convert.UNCONFINED:
        return ""
    try:
        with open(_path(given, directory), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return given


def _path(given: str, directory: str) -> str:
    return os.path.normpath(os.path.join(directory, given))
