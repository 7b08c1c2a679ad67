"""Which system calls a service may make: `security_opt`'s word or file, become a profile for its bundle.

Unlike ``convert`` this looks at the machine and reads a file, so it is kept apart from what is pure.
"""

from __future__ import annotations

import functools
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
    return _read(given, directory).profile


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
    unknown = _read(given, directory).unknown
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
        return _read(given, directory).digest
    except errors.SpecError:
        return given


def _read(given: str, directory: str) -> seccomp_profile.Read:
    """A file is read once for as long as it stays the same: an `up` asks for it at every step."""
    path = os.path.normpath(os.path.join(directory, given))
    try:
        found = os.stat(path)
    except OSError:
        return seccomp_profile.read(path)  # it says what is wrong
    return _unchanged(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _unchanged(path: str, _stamp: tuple[int, ...]) -> seccomp_profile.Read:
    return seccomp_profile.read(path)
