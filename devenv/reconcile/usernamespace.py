"""Which user namespace a service's containers are in: the engine's own, or one with a range of ids for its project.

As an ordinary user there is nothing to choose: the engine itself is in a user namespace, and only the machine's root
can mount layers with other ids than they have.
"""

from __future__ import annotations

import os

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
    """What an ordinary user should know of a service, and would not see."""
    if namespace.in_initial_user_namespace():
        return []
    found = []
    if service.get("userns_mode") == AUTO:
        found.append(
            "`userns_mode: auto` needs root: an ordinary user's services share the ids that /etc/subuid lends the user"
        )
    if service.get("device_cgroup_rules"):
        found.append("`device_cgroup_rules` need root: an ordinary user's containers can't make device nodes")
    for device in convert.device_list(service):
        if os.path.exists(device.source) and not os.access(device.source, os.R_OK | os.W_OK):
            found.append(
                f"the device `{device.source}` is there and can't be opened: as root, "
                f"`setfacl -m u:$USER:rw {device.source}`"
            )
    return found
