"""Another name for a container: what it may be, and whose records say so from then on.

A name is one container's, of whatever project, and in the project nobody else answers to it: not a service, whose
name its containers have in each other's hosts files, nor a container that a service has yet to be given.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from devenv import errors
from devenv.reconcile import record

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)  # docker's
_LIMIT = 255  # of a word in a hosts file that resolvers still read: NAME_MAX does for them


def check(name: str, made: record.Record, everyone: Iterable[record.Record], *, services: Iterable[str] = ()) -> None:
    """Raises ``UsageError`` for what is no name, ``ContainerError`` for one that somebody has."""
    if not _NAME.fullmatch(name) or len(name) > _LIMIT:
        raise errors.UsageError(
            f"`{name}` can't be a container's name",
            hint="letters, digits, `_`, `.` and `-`, at least two; no more than 255",
        )
    if name == made.name:
        raise errors.UsageError(f"container `{name}` is called that already")
    others = [each for each in everyone if each.id != made.id]
    for each in others:
        if name in {each.name, each.id}:
            raise errors.ContainerError(
                f"the name `{name}` is taken by container {each.id[:12]} of project `{each.project}`",
                hint=f"`devenv container rename {each.name} OTHER` or `devenv container rm {each.name}` frees it",
            )
    family = [each for each in others if each.project_id == made.project_id]
    known = {*services, made.service, *(each.service for each in family)}
    answered = known | {
        alias for each in family for use in each.networks.values() for alias in use.get("aliases") or ()
    }
    if name in answered - {made.service}:
        raise errors.ContainerError(
            f"`{name}` means a service in project `{made.project}`: both would answer to it", hint="take another name"
        )
    for service in known:
        number = name.removeprefix(f"{made.project}-{service}-")
        if number != name and number.isdecimal() and (service, int(number)) != (made.service, made.number):
            raise errors.ContainerError(
                f"`{name}` is what `up` calls container {number} of service `{service}`", hint="take another name"
            )


def renamed(name: str, made: record.Record, family: Sequence[record.Record]) -> list[record.Record]:
    """The records that change: its own, and those that name it as whose namespaces they share."""
    found = [dataclasses.replace(made, name=name)]
    old, lasting = f"container:{made.name}", f"container:{made.id}"
    for each in family:
        shares = {kind: lasting if mode == old else mode for kind, mode in each.shares.items()}
        if each.id != made.id and shares != each.shares:
            mode = lasting if each.network_mode == old else each.network_mode
            found.append(dataclasses.replace(each, shares=shares, network_mode=mode))
    return found


def check_free(name: str, own: tuple[str, int] | None, family: Iterable[record.Record]) -> None:
    """Whether one that is to be made may be called so. ``own`` is its service and number, which it may replace; None
    for a one-off. Raises ``ContainerError``."""
    for each in family:
        if each.name == name and (each.oneoff or (each.service, each.number) != own):
            raise errors.ContainerError(
                f"a container of service `{each.service}` is called `{name}`",
                hint=f"`devenv container rename {name} OTHER` frees the name",
            )
