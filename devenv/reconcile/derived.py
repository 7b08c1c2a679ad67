"""Which services have their rules by their Dockerfile: those with a ``build:`` and none of their own.

How is in ``traced``, which takes all of a build to import: 100 ms and 4 MB that nobody pays who writes rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from devenv.image import store as image_store
from devenv.reconcile import convert, desired
from devenv.sync import rules
from devenv.util import paths


class Machine(NamedTuple):
    where: paths.Paths
    store: image_store.ImageStore
    environ: Mapping[str, str]  # of the command that asks


def is_wanted(service: convert.Service) -> bool:
    """`develop: {watch: []}` says that there are to be none."""
    return bool(service.get("build")) and "watch" not in (service.get("develop") or {})


def make(environment: desired.Environment, name: str, machine: Machine) -> list[rules.Rule]:
    """Raises ``DevenvError`` for a Dockerfile that can't be followed."""
    from devenv.reconcile import traced

    return traced.make(environment, name, machine)


def fingerprint(found: Sequence[rules.Rule]) -> list[tuple[str, ...]]:
    """To tell whether a Dockerfile that was edited asks for something else."""
    return [(rule.service, rule.action, rule.path, rule.target, rule.step, rule.place, rule.why) for rule in found]
