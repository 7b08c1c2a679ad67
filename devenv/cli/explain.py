"""``devenv watch --explain PATH``: what a change to a file would do, and why. Starts and changes nothing."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator, Sequence

from devenv.cli import context, terminal
from devenv.image import store as image_store
from devenv.reconcile import building, derived, desired, explaining, syncing


def show(project: context.Loaded, services: Sequence[str], given: Sequence[str], *, as_json: bool) -> None:
    environment = desired.from_json(
        {"project": building.named(project.canonical), "directory": project.identity.directory}
    )
    store = image_store.ImageStore(project.where)
    try:
        machine = derived.Machine(project.where, store, dict(os.environ))
        found = syncing.make_rules(environment, services, machine)
    finally:
        store.close()
    folder = pathlib.Path(context.current_folder())
    paths = [os.path.normpath(folder / each) for each in given]
    answers = list(explaining.explain(environment, services, found, paths))
    if as_json:
        print(json.dumps([each._asdict() for each in answers], indent=2))
        return
    for line in _lines(answers, project.identity.directory):
        print(terminal.visible(line))


def _lines(answers: Sequence[explaining.Answer], directory: str) -> Iterator[str]:
    path = ""
    for each in answers:
        if each.path != path:
            path = each.path
            yield path.removeprefix(f"{directory}/")
        target = f" to {each.target}" if each.target else ""
        start = " from" if each.action == "rebuild" else " by"
        step = f"{start} {each.step} ({each.place})" if each.step else f" by {each.place}" if each.place else ""
        yield f"  {each.service}: {each.action}{target}{step}: {each.why}"
