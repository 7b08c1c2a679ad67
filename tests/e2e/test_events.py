"""``devenv events``: of the past by the journal, as they happen by the supervisor, each once."""

from __future__ import annotations

import datetime
import json
import signal
import time
from typing import Any

import pytest

from tests.support import engine, projects, runner

pytestmark = pytest.mark.root

SPEC = """
    name: shop
    services:
      web: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL}
      db: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL}
"""


def past(devenv: runner.Devenv, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in devenv("events", "--json", "--until", "0s", *arguments).stdout.splitlines()]


def actions(found: list[dict[str, Any]]) -> list[str]:
    return [each["action"] for each in found]


def test_those_of_the_past_outlive_everybody(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    moment = time.time()
    devenv("restart", "web")
    engine.kill(*(engine.find(devenv, role) for role in engine.ROLES))
    found = past(devenv, "web")
    assert actions(found) == ["create", "start", "die", "stop", "start"]
    first, died = found[0], found[2]
    assert set(first) == {"time", "type", "action", "id", "service", "attributes"}
    assert first["attributes"] == {"image": "host:", "name": "shop-web-1"}
    assert len(first["id"]) == 64
    assert died["attributes"]["exitCode"] == "137"
    # All the ways to write a time mean the same one.
    written = datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat()
    for since in (str(moment), written, written.replace("+00:00", "Z")):
        assert actions(past(devenv, "--since", since)) == ["die", "stop", "start"], since
    assert past(devenv, "--since", "1h", "web") == found
    assert actions(past(devenv, "--since", "1h", "--until", written, "db")) == ["create", "start"]
    assert engine.find(devenv, "supervisor") is None  # nobody was needed for it


def test_filters_are_alternatives_within_a_key(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    both = past(devenv, "--filter", "event=start", "--filter", "event=die", "--filter", "service=db")
    assert [(each["service"], each["action"]) for each in both] == [("db", "start")]
    for key in ("container=shop-web-1", f"container={past(devenv, 'web')[0]['id'][:12]}"):
        assert {each["service"] for each in past(devenv, "--filter", key)} == {"web"}
    assert past(devenv, "--filter", "image=nothing") == past(devenv, "--filter", "type=network") == []
    refused = devenv("events", "--filter", "label=x", code=2)
    assert "keys are container, event, image, service, type" in refused.stderr
    assert "`--since` is later" in devenv("events", "--since", "1m", "--until", "2m", code=2).stderr


def test_past_and_present_each_once_also_when_a_supervisor_dies(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    # stderr apart: a supervisor that is started anew may have something to say.
    following = devenv.start("events", "--json", "--since", "1h", "web", stderr=None)
    assert following.stdout is not None
    heard = [json.loads(following.stdout.readline()) for _ in range(2)]
    try:
        engine.kill(engine.find(devenv, "supervisor"))
        devenv("stop", "web")
        devenv("start", "web")
        heard += [json.loads(following.stdout.readline()) for _ in range(3)]
    finally:
        following.send_signal(signal.SIGINT)
        rest = following.communicate()[0]
    assert actions(heard) == ["create", "start", "die", "stop", "start"]
    assert rest == ""


def test_it_ends_when_its_time_has_come(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    began = time.time()
    result = devenv("events", "--since", "1h", "--until", str(began + 1.0), "db")
    assert time.time() >= began + 1.0
    assert [line.split()[5] for line in result.stdout.splitlines()] == ["create", "start"]
