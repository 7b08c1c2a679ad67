"""``devenv events``: what happens to the project's containers, and what has happened.

Past events are in the project's journal, which the supervisor writes before it tells anybody. So whoever begins to
listen, and then reads the journal, misses nothing; that also closes the gap when a supervisor dies and comes back.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import context, formats, options, terminal, watching
from devenv.reconcile import journal

Event = dict[str, Any]

_REMEMBERED = 4096  # events that are known to have been shown

# By the filter's name: what of an event it is compared with.
_FILTERS: dict[str, Callable[[Event, str], bool]] = {
    "container": lambda event, value: event["name"] == value or (value != "" and event["id"].startswith(value)),
    "event": lambda event, value: value in {event["action"], event["action"].partition(":")[0]},
    "image": lambda event, value: value in {event["image"], event["image"].rpartition(":")[0]},
    "service": lambda event, value: event["service"] == value,
    "type": lambda _, value: value == "container",
}


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line")] = False,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Begin with those since, or 10m for ago")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="End then; what is past is shown at once")] = "",
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help=f"Only {', '.join(_FILTERS)}")
    ] = None,
) -> None:
    """Follow what happens to containers, or show what has happened."""
    now = time.time()
    end = formats.moment(until, now=now, option="--until") if until else math.inf
    begin = formats.moment(since, now=now, option="--since") if since else 0.0 if until else now
    if begin > end:
        raise errors.UsageError("`--since` is later than `--until`")
    wanted = _parse(filters or ())
    project = context.find(ctx.obj)
    chosen = set(project.check_services(services))
    stream = _past(project, begin) if end <= now else _stream(project, begin)
    with contextlib.suppress(_Over), _alarm(end - now):
        for event in stream:
            if event["time"] > end or (chosen and event["service"] not in chosen):
                continue
            if all(any(_FILTERS[key](event, value) for value in values) for key, values in wanted.items()):
                print(_json(event) if as_json else _text(event), flush=True)


def _parse(filters: list[str] | tuple[str, ...]) -> dict[str, set[str]]:
    """As docker has it: values of one key are alternatives, keys must all match."""
    found: dict[str, set[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in _FILTERS:
            raise errors.UsageError(
                f"`--filter {text}` is not understood", hint=f"write KEY=VALUE; keys are {', '.join(_FILTERS)}"
            )
        found.setdefault(key, set()).add(value)
    return found


class _Over(Exception):
    """The time of ``--until`` has come."""


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise ``_Over`` by then, in whatever is being waited for."""
    if seconds <= 0 or math.isinf(seconds):
        yield
        return

    def ring(*_: object) -> None:
        raise _Over

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _past(project: context.Found, begin: float) -> Iterator[Event]:
    for entry in journal.read(project.where, project.identity):
        if entry.get("kind") == "event" and entry.get("time", 0.0) >= begin:
            yield _event({**entry, "name": entry.get("container")})


def _stream(project: context.Found, begin: float) -> Iterator[Event]:
    """From then on, each once and without an end."""
    shown: set[tuple[Any, ...]] = set()
    for message in watching.messages(project):
        if "subscribed" in message:
            # The journal also has what was told while nobody was there to hear it.
            found = list(_past(project, begin))
        elif "container" in message:
            found = [_event(message["container"])]
        else:
            continue
        for event in found:
            key = (event["id"], event["action"], event["time"])
            if key not in shown and event["time"] >= begin:
                shown.add(key)
                yield event
            if len(shown) > _REMEMBERED:
                begin = event["time"]
                shown = {each for each in shown if each[2] >= begin}


def _event(given: dict[str, Any]) -> Event:
    action = str(given.get("action") or "")
    return {
        "time": float(given.get("time") or 0.0),
        "action": f"{action}: {given['health']}" if action == "health_status" and given.get("health") else action,
        "id": str(given.get("id") or ""),
        "service": str(given.get("service") or ""),
        "name": str(given.get("name") or ""),
        "image": str(given.get("image") or ""),
        "exit_code": given.get("exit_code") if action in {"die", "oom"} else None,
    }


def _attributes(event: Event) -> dict[str, str]:
    code = {} if event["exit_code"] is None else {"exitCode": str(event["exit_code"])}
    return {**code, "image": event["image"], "name": event["name"]}


def _json(event: Event) -> str:
    return json.dumps(
        {
            "time": formats.rfc3339(event["time"]),
            "type": "container",
            "action": event["action"],
            "id": event["id"],
            "service": event["service"],
            "attributes": _attributes(event),
        }
    )


def _text(event: Event) -> str:
    details = ", ".join(f"{key}={value}" for key, value in _attributes(event).items())
    moment = formats.timestamp(event["time"])
    return terminal.visible(f"{moment} container {event['action']} {event['id']} ({details})")
