"""`post_start` and `pre_stop`: commands run in a container by the supervisor, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from devenv import errors

if TYPE_CHECKING:
    from devenv.reconcile import live
    from devenv.reconcile import loop as loop_module


async def run(loop: loop_module.Loop, container: live.Live, kind: str) -> None:
    """A failing `post_start` hook fails the start; a failing `pre_stop` hook does not keep a service from stopping."""
    for hook in container.record.hooks.get(kind) or []:
        code, output = await loop.probes.run(container.id, list(hook.get("command") or []), 60.0, options=options(hook))
        if code != 0 and kind == "post_start":
            text = output.decode(errors="replace").strip()
            raise errors.ContainerError(
                f"`post_start` of `{container.record.name}` ended with {'a timeout' if code is None else code}",
                note=text[-1000:] or None,
            )


def options(hook: Mapping[str, Any]) -> dict[str, Any]:
    environment = hook.get("environment") or {}
    return {
        "user": hook.get("user") or "",
        "cwd": hook.get("working_dir") or "",
        "env": [f"{name}={value}" for name, value in environment.items() if value is not None],
        "privileged": bool(hook.get("privileged")),
    }
