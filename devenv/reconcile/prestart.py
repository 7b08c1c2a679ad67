"""`pre_start`: each hook is a container of its own, which ends before the service's is started.

It has the service's networks, volumes, variables and rights, and its image unless the hook names another. One that
has ended well is removed; one that has not stays for whoever wants to look, until the hooks run again or `down`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.image import store as image_store
from devenv.reconcile import convert, desired, live, making, mounts, waiting
from devenv.runtime import logs

if TYPE_CHECKING:
    from devenv.reconcile import loop as loop_module

LABEL = "com.docker.compose.hook"
_TAIL = 10  # lines of one that has failed

# What belongs to the service's own containers: how they are called, reached, watched and brought back.
_NOT_FOR_HOOKS = frozenset(
    "container_name depends_on develop expose healthcheck mac_address ports post_start pre_start pre_stop ready restart"
    " stdin_open tty".split()
)

Tell = Callable[[str], None]


async def run(
    loop: loop_module.Loop,
    environment: desired.Environment,
    image: image_store.Image | None,
    container: live.Live,
    *,
    every: bool,
    tell: Tell,
) -> None:
    """One after the other. ``image`` is the service's; ``every``: also those that only one replica has."""
    hooks = container.record.hooks.get("pre_start") or []
    for number, hook in enumerate(hooks, 1):
        if every or hook.get("per_replica"):
            tell(f"`pre_start` {number} of {len(hooks)}" if len(hooks) > 1 else "`pre_start`")
            await _run_one(
                loop, environment, image, container, hook, name=f"{container.record.name}-pre_start-{number}"
            )


async def _run_one(
    loop: loop_module.Loop,
    environment: desired.Environment,
    image: image_store.Image | None,
    container: live.Live,
    hook: Mapping[str, Any],
    *,
    name: str,
) -> None:
    made = container.record
    # What a failed run left, or a supervisor that was killed meanwhile: two must never run at once.
    for other in [each for each in loop.live.values() if each.record.oneoff and each.record.name == name]:
        await _remove(loop, other)
    inherited = live.anonymous_volumes(container)
    changed = _environment(environment, made.service, hook, inherited)
    if image is None or hook.get("reference"):
        wanted = str(hook.get("reference") or environment.services[made.service].get("image") or "")
        platform = str(environment.services[made.service].get("platform") or "")
        image = await loop.run(
            loop.containers.images.resolve, wanted, base=environment.directory, wanted_platform=platform
        )
    wish = making.Wish(
        service=made.service,
        number=made.number,
        name=name,
        oneoff=True,
        labels={LABEL: "pre_start"},
        inherited=inherited,
    )
    hooked = await loop.create_container(changed, wish, image, mounts.Builder(changed, loop.containers))
    try:
        await loop.start_container(hooked)
        await loop.changes.until(lambda: waiting.Verdict(not hooked.runs))
    except BaseException:
        # Given up, or it never ran: nothing to look at.
        await asyncio.shield(_remove(loop, hooked))
        raise
    if hooked.exit_code == 0:
        await _remove(loop, hooked)
        return
    tail = await loop.run(lambda: list(logs.read(loop.where.container(hooked.id), tail=_TAIL)))
    code = "a code that nobody saw" if hooked.exit_code is None else hooked.exit_code
    raise errors.ContainerError(
        f"`{made.name}` is not started: its `pre_start` hook `{' '.join(hook['command'])}` ended with {code}",
        note="".join(line.data.decode(errors="replace") for line in tail) or None,
        hint="it is run again by the next `devenv up`",
    )


async def _remove(loop: loop_module.Loop, hooked: live.Live) -> None:
    """With the anonymous volumes that no other container has: those of the service's are not the hook's."""
    await loop.stop_container(hooked, timeout=None)
    others = {name for each in loop.live.values() if each is not hooked for name in each.record.anonymous_volumes}
    await loop.remove_container(hooked, volumes=False)
    for volume in set(hooked.record.anonymous_volumes) - others:
        await loop.run(loop.containers.volumes.remove, volume)


def _environment(
    environment: desired.Environment, name: str, hook: Mapping[str, Any], inherited: Mapping[str, str]
) -> desired.Environment:
    """Where the service is what the hook makes of it."""
    service = {key: value for key, value in environment.services[name].items() if key not in _NOT_FOR_HOOKS}
    if hook.get("reference"):
        service["image"] = hook["image"]
        # Another image's commands are not wrapped in the service's.
        service.pop("entrypoint", None)
    service["command"] = list(hook["command"])
    for key in ("user", "working_dir", "privileged"):
        if hook.get(key):
            service[key] = hook[key]
    given = hook.get("environment") or {}
    service["environment"] = {**(service.get("environment") or {}), **given}
    deploy = service.pop("deploy", None) or {}
    if deploy.get("resources"):
        service["deploy"] = {"resources": deploy["resources"]}
    service["volumes"] = _volumes(service, inherited)
    if service.get("networks"):
        service["networks"] = {
            key: {**(each or {}), "aliases": [], "ipv4_address": None, "ipv6_address": None, "mac_address": None}
            for key, each in service["networks"].items()
        }
    services = {**environment.services, name: service}
    return dataclasses.replace(environment, project={**environment.project, "services": services})


def _volumes(service: convert.Service, inherited: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Its own, and the unnamed ones that its image or another service gave the container."""
    mine = list(service.get("volumes") or [])
    targets = {entry["target"] for entry in mine}
    return [*mine, *({"type": "volume", "target": target} for target in sorted(set(inherited) - targets))]
