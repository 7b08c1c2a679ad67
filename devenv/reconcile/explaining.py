"""What a change to a file would do, and why: the rules of a watch session, asked and not obeyed."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from devenv.reconcile import derived, desired, syncing
from devenv.sync import rules


class Answer(NamedTuple):
    path: str
    service: str
    action: str  # of `develop.watch`, or `nothing`
    target: str = ""  # where it goes in the container
    step: str = ""  # of the Dockerfile
    place: str = ""  # of the rule: file and line of a step, or the attribute
    why: str = ""


def explain(
    environment: desired.Environment, services: Iterable[str], found: syncing.Found, paths: Iterable[str]
) -> Iterator[Answer]:
    """``paths`` are absolute. At least one answer for each path and service."""
    names = list(services)
    for path in paths:
        real = posixpath.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        for name in names:
            own = [rule for rule in found.rules if rule.service == name]
            yield from _of_service(environment, name, own, real, found)


def _of_service(
    environment: desired.Environment, name: str, own: list[rules.Rule], path: str, found: syncing.Found
) -> Iterator[Answer]:
    service = environment.services[name]
    plan = syncing.Plan(own, service)
    said = False
    for rule in own:
        relative = rule.covers(path)
        if relative is None:
            continue
        target = ""
        if rule.action.syncs:
            item = plan.item(rule, path, relative)
            if item is None:
                continue
            target = posixpath.join(item.target, item.path)
        said = True
        why = f"{rule.why}, and `pull` that the container's changes come back" if rule.pulls(relative) else rule.why
        yield Answer(path, name, rule.action, target, rule.step, rule.place, why)
    if not said:
        yield Answer(path, name, "nothing", why=_nothing(environment, name, path, found))


def _nothing(environment: desired.Environment, name: str, path: str, found: syncing.Found) -> str:
    service = environment.services[name]
    shown = syncing.shown_at(service, path)
    if shown is not None:
        return f"a bind mount shows it at `{shown}` already"
    caution = next((each.text for each in found.warnings if each.service == name), "")
    if caution:
        return caution
    if name in found.derived:
        return "no step of its Dockerfile copies it to where it could be seen"
    if (service.get("develop") or {}).get("watch"):
        return "no rule of `develop.watch` is about it"
    if derived.is_wanted(service):
        return "its build context is not a folder of this machine"
    return "its watching is turned off" if service.get("build") else "it has neither `build:` nor `develop.watch`"
