"""``devenv events``: what happens to the project's containers, until Ctrl-C."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from devenv.cli import context, formats, options, terminal, watching


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line")] = False,
) -> None:
    """Follow what happens to containers."""
    project = context.find(ctx.obj)
    wanted = set(project.check_services(services))
    for message in watching.messages(project):
        event = message.get("container")
        if event is None or (wanted and event.get("service") not in wanted):
            continue
        print(_json(event) if as_json else _text(event), flush=True)


def _attributes(event: dict[str, Any]) -> dict[str, Any]:
    return {"name": event.get("name", ""), **({"exitCode": str(event["exit_code"])} if "exit_code" in event else {})}


def _json(event: dict[str, Any]) -> str:
    return json.dumps(
        {
            "time": formats.rfc3339(event.get("time") or time.time()),
            "type": "container",
            "action": event.get("action"),
            "id": event.get("id"),
            "service": event.get("service"),
            "attributes": _attributes(event),
        }
    )


def _text(event: dict[str, Any]) -> str:
    moment = formats.timestamp(event.get("time") or time.time())
    details = ", ".join(f"{key}={value}" for key, value in _attributes(event).items())
    return terminal.visible(f"{moment} container {event.get('action')} {event.get('id')} ({details})")
