"""What the commands about containers share: finding one by its name or id, in whatever project it is."""

from __future__ import annotations

from collections.abc import Sequence

from devenv import errors
from devenv.cli import inventory, report
from devenv.util import identity, paths


class Home:
    """The project a container belongs to, for asking its supervisor."""

    def __init__(self, where: paths.Paths, item: inventory.Container) -> None:
        self.where = where
        record = item.record
        self.identity = identity.Project(record.project_id, record.project, record.project_dir)


def find(containers: Sequence[inventory.Container], text: str) -> inventory.Container:
    """By name, by id or the beginning of one. Raises ``ContainerError``."""
    exact = [item for item in containers if text in {item.record.name, item.record.id}]
    found = exact or [item for item in containers if text and item.record.id.startswith(text)]
    if len(found) > 1:
        folders = ", ".join(sorted({f"`{item.record.project_dir}`" for item in found}))
        raise errors.ContainerError(
            f"{len(found)} containers are meant by `{text}`",
            hint="write its id, which `devenv container ls -a` shows",
            note=f"they belong to projects in {folders}",
        )
    if not found:
        known = [item.record.name for item in containers]
        raise errors.ContainerError(
            f"there is no container `{text}`",
            hint=report.did_you_mean(text, known) or "`devenv container ls --all` lists them",
        )
    return found[0]
