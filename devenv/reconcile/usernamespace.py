"""Which user namespace a service's containers are in: the engine's own, or one with a range of ids for its project.

As an ordinary user there is nothing to choose: the engine itself is in a user namespace, and only the machine's root
can mount layers with other ids than they have.
"""

from __future__ import annotations

from devenv.linux import namespace
from devenv.reconcile import convert
from devenv.runtime import bundle, subids
from devenv.util import identity, paths

AUTO = "auto"


def choose(service: convert.Service, project: identity.Project, where: paths.Paths) -> bundle.Ids | None:
    """None for the engine's own. Raises ``HostError`` when there are no ids left."""
    if service.get("userns_mode") != AUTO or not namespace.in_initial_user_namespace():
        return None
    lent = subids.allocate(where, project.id)
    return bundle.Ids(lent.first, lent.size)


def notes(service: convert.Service) -> list[str]:
    if service.get("userns_mode") != AUTO or namespace.in_initial_user_namespace():
        return []
    return ["`userns_mode: auto` needs root: an ordinary user's services share the ids that /etc/subuid lends the user"]
