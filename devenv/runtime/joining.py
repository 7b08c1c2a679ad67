"""Another process in a container, described: the container's own process, with what was asked for in place of it.

For `exec`, health checks and hooks alike: without other wishes they have the service's user, groups, environment,
folder, limits and capabilities.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from devenv.runtime import bundle, capabilities


def describe(
    config: Mapping[str, Any],
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "",
    privileged: bool = False,
    tty: bool = False,
) -> dict[str, Any]:
    """The OCI process object for ``exec.exec_process``; ``config`` is the container's bundle."""
    process = dict(config.get("process") or {})
    annotations = config.get("annotations") or {}
    process["args"] = list(args)
    process["terminal"] = tty
    values = dict(text.partition("=")[::2] for text in process.get("env") or ())
    if tty:
        values.setdefault("TERM", os.environ.get("TERM") or "xterm")
    values.update(env or {})
    process["env"] = [f"{name}={value}" for name, value in values.items()]
    # A name is looked up in the container, by the process that has entered it.
    process["user"] = user or annotations.get(bundle.USER) or _numeric(process)
    process["groups"] = json.loads(annotations.get(bundle.GROUPS) or "[]")
    if workdir:
        # As for `working_dir:`, a relative one starts where the container does.
        process["cwd"] = os.path.normpath(os.path.join(process.get("cwd") or "/", workdir))
    if privileged:
        every = list(capabilities.select((), (), privileged=True))
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), every)
        process["noNewPrivileges"] = False
    return process


def _numeric(process: Mapping[str, Any]) -> str:
    given = process.get("user") or {}
    return f"{given.get('uid', 0)}:{given.get('gid', 0)}"
