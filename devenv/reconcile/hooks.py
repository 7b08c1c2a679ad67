"""`post_start` and `pre_stop`: commands run in a container by the supervisor, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from devenv import errors

if TYPE_CHECKING:
    from devenv.reconcile import live
    from devenv.reconcile import loop as loop_module

LONGEST = 60.0  # seconds for one command


async def run(loop: loop_module.Loop, container: live.Live, kind: str) -> errors.ContainerError | None:
    """What went wrong with the first that failed; those after it are not run then."""
    for hook in container.record.hooks.get(kind) or []:
        argv = list(hook.get("command") or [])
        code, output = await loop.probes.run(container.id, argv, LONGEST, options=options(hook))
        if code != 0:
            how = f"took longer than {LONGEST:g} s" if code is None else f"ended with {code}"
            return errors.ContainerError(
                f"`{kind}` of `{container.record.name}`: `{' '.join(argv)}` {how}",
                note=output.decode(errors="replace").strip()[-1000:] or None,
            )
    return None


def options(hook: Mapping[str, Any]) -> dict[str, Any]:
    environment = hook.get("environment") or {}
    return {
        "user": hook.get("user") or "",
        "cwd": hook.get("working_dir") or "",
        "env": [f"{name}={value}" for name, value in environment.items() if value is not None],
        "privileged": bool(hook.get("privileged")),
    }
