"""``down --rmi``: the images of a project's services go when their containers have gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

from devenv import errors, events
from devenv.cli import context, image_rm, imaging, inventory, options
from devenv.cli.display import sink
from devenv.image import gc


def chosen(given: options.Globals, project: context.Found, kind: str, services: Sequence[str]) -> list[str]:
    """References, by the spec if it can be read and by the containers that are there. ``local`` are those that have
    no name in the spec, ``all`` are all."""
    from devenv.reconcile import building

    name = project.identity.name
    found = {item.record.service: item.record.image for item in inventory.load(project.where, project.identity.id)}
    with contextlib.suppress(errors.DevenvError):
        spec = context.load(given, warn=False).canonical["services"]
        found |= {service: building.image_name(name, service, each) for service, each in spec.items()}
    return sorted(
        {
            image
            for service, image in found.items()
            if (not services or service in services)
            and (kind == "all" or image == building.image_name(name, service, {}))
        }
    )


def remove(names: Iterable[str], show: sink.Display) -> None:
    """What others use stays, and is named; what isn't here is gone already."""
    opened = imaging.Images.change()
    for name in names:
        if not opened.catalog.matching(name):
            continue
        try:
            image_rm.remove(opened, name, force=False, say=lambda _line: None)
        except errors.ImageError as exc:
            _tell(show, name, events.Status.WARNING, "Kept", exc.message)
        else:
            _tell(show, name, events.Status.DONE, "Removed")
    show.finish()
    gc.collect(opened.where)


def _tell(show: sink.Display, name: str, status: events.Status, text: str, details: str = "") -> None:
    show.show(events.Event(resource=f"Image {name}", status=status, text=text, details=details, time=time.time()))
