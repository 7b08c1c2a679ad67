"""``devenv watch --explain PATH``: what a change to a file would do to each service, and by which rule."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from devenv import errors
from devenv.cli import context, terminal
from devenv.sync import rules


def explain(project: context.Loaded, services: Sequence[str], paths: Sequence[str], *, output: str) -> None:
    rows = [row for path in paths for name in services for row in _rows(project, name, os.path.realpath(path), path)]
    if output == "json":
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for path in paths:
        print(terminal.visible(path))
        for row in (row for row in rows if row["Path"] == path):
            does = f"{row['Action']} to {row['Target']}" if row["Target"] else row["Action"]
            print(terminal.visible(f"  {row['Service']}: {does}"))
            if row["Rule"]:
                print(terminal.visible(f"    by {row['Rule']}"))
            print(terminal.visible(f"    {row['Why']}"))


def _rows(project: context.Loaded, name: str, path: str, given: str) -> Iterator[dict[str, Any]]:
    found = list(_matching(project, name, path))
    for action, target, rule, why in found or [("nothing", "", "", _unwatched(project, name, path))]:
        yield {"Path": given, "Service": name, "Action": action, "Target": target, "Rule": rule, "Why": why}


def _matching(project: context.Loaded, name: str, path: str) -> Iterator[tuple[str, str, str, str]]:
    """Action, place in the container, the rule and its reason."""
    from devenv.reconcile import autowatch, syncing

    service = project.canonical["services"][name]
    dockerignore = syncing.dockerignored(service)
    if autowatch.wanted(service):
        for each in autowatch.make(name, service, dockerignore):
            step = each.step
            said = f"{os.path.relpath(step.place.file)}:{step.place.line}: {step.text}" if step else "its Dockerfile"
            yield from _one(each.rule, service, path, said, each.why)
    for number, entry in enumerate((service.get("develop") or {}).get("watch") or ()):
        rule = rules.make(name, entry, dockerignore=dockerignore, directory=project.identity.directory)
        yield from _one(rule, service, path, f"services.{name}.develop.watch[{number}]", "the rule says so")


def _one(rule: rules.Rule, service: Any, path: str, said: str, why: str) -> Iterator[tuple[str, str, str, str]]:
    from devenv.reconcile import syncing

    relative = rule.covers(path)
    if relative is None:
        return
    shown = rule.action.syncs and syncing.bound(rule, service)
    if shown:
        yield "nothing", "", said, str(shown)
        return
    target = f"{rule.target.rstrip('/')}/{relative}".rstrip("/") if relative else rule.target
    yield str(rule.action), target if rule.action.syncs else "", said, why


def _unwatched(project: context.Loaded, name: str, path: str) -> str:
    from devenv.reconcile import syncing

    service = project.canonical["services"][name]
    scope = syncing.dockerignored(service)
    if scope is not None and scope.match(path):
        return "its `.dockerignore` leaves it out"
    if not service.get("build") and not (service.get("develop") or {}).get("watch"):
        return "the service is not built, and has no `develop: watch:`"
    return "it is in no image of it, and no rule names it"


def check(output: str) -> None:
    if output not in {"text", "json"}:
        raise errors.UsageError(f"`--format {output}` is not understood; it is text or json")
