"""``devenv why`` and ``devenv timings``: answers from the journal, with no supervisor needed."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from tests.support import engine, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
    name: shop
    services:
      db:
        image: "host:"
        command: [sh, -c, "sleep 0.3; touch /tmp/up; sleep 1000"]
        stop_signal: SIGKILL
        healthcheck: {{test: [CMD-SHELL, "test -e /tmp/up || {{ echo not there yet; exit 1; }}"]}}
      web:
        image: "host:"
        command: [sleep, "{seconds}"]
        stop_signal: SIGKILL
        depends_on: {{db: {{condition: service_healthy}}}}
      job:
        image: "host:"
        command: [sh, -c, "echo one; echo cannot go on >&2; exit 3"]
        profiles: [jobs]
"""


def why(devenv: runner.Devenv, service: str) -> str:
    return devenv("why", service).stdout


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_why_it_was_made_again_and_why_it_died(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.format(seconds=1000))
    anyone("up", "-d")
    project.write(SPEC.format(seconds=2000))
    anyone("up", "-d")
    said = why(anyone, "web")
    assert said.startswith("shop-web-1: Up ")
    assert ": command changed" in said
    anyone("--profile", "jobs", "up", "-d", "job")
    eventually(lambda: "Exited (3)" in why(anyone, "job"), 10)
    said = why(anyone, "job")
    assert "it ended with exit code 3\n  it stays so: its restart policy is `no`\n" in said
    assert said.endswith("  its last words:\n    one\n    cannot go on\n")
    anyone("kill", "-s", "KILL", "web")
    assert "exit code 137: signal SIGKILL, as it was asked to" in why(anyone, "web")
    # Nobody needs to be there to be asked.
    engine.kill(*(engine.find(anyone, role) for role in engine.ROLES))
    assert "exit code 3" in why(anyone, "job")


def test_why_it_waits(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.format(seconds=1000).replace("touch /tmp/up", ":"))
    running = devenv.start("up", "-d")
    try:
        eventually(lambda: "last: not there yet" in why(devenv, "web"), 20)
        assert "it waits for db: healthy (" in why(devenv, "web")
        assert "its check failed" in why(devenv, "db")
    finally:
        running.kill()
        running.communicate()


def test_why_it_was_never_started(devenv: runner.Devenv, project: projects.Project) -> None:
    """What kept it holds no more: then nothing that is there now tells."""
    project.write("""
        name: shop
        services:
          db:
            image: "host:"
            command: [sleep, infinity]
            stop_signal: SIGKILL
            ready: {exec: [test, -e, /tmp/go], interval: 0.1s, retries: 2}
          web:
            image: "host:"
            command: [sleep, infinity]
            stop_signal: SIGKILL
            depends_on: {db: {condition: service_healthy}}
    """)
    assert "failed to start" in devenv("up", "-d", code=1).stderr
    devenv("exec", "-T", "db", "touch", "/tmp/go")
    eventually(lambda: "(healthy)" in why(devenv, "db"), 20)
    said = why(devenv, "web")
    assert "it was not started, " in said
    assert "dependency `db` failed to start: `shop-db-1` is unhealthy" in said
    assert said.endswith("; `devenv up` tries again\n")
    devenv("up", "-d", "--force-recreate", "--no-start", "web")
    assert why(devenv, "web").endswith("it was never started; `devenv up` does so\n")


def test_a_crash_loop(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write("""
        name: shop
        services: {web: {image: "host:", command: [sh, -c, "exit 7"], restart: always}}
    """)
    devenv("up", "-d")
    eventually(lambda: "a crash loop" in why(devenv, "web"), 30)
    said = why(devenv, "web")
    assert "exit code 7" in said
    assert re.search(r"it is restarting in \d+ s \(crash \d+: exit 7\)", said)


def test_timings(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.format(seconds=1000))
    assert "nothing of this project was started yet" in devenv("timings", code=2).stderr
    devenv("up", "-d")
    steps = {
        (each["Operation"], each["Service"]): each for each in json.loads(devenv("timings", "--format", "json").stdout)
    }
    wait = steps["container.wait", "db"]
    assert wait["Critical"]
    assert wait["Took"] > 0.1
    assert steps["container.start", "web"]["Critical"]
    assert "in all" in devenv("timings").stdout


def test_it_is_bounded_and_ends_with_the_project(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.format(seconds=1000))
    devenv("up", "-d")
    (path,) = pathlib.Path(devenv.data, "projects").glob("*/journal.jsonl")
    # As a long life leaves it; the next entry makes it begin anew.
    with path.open("a") as file:
        file.write('{"kind": "event", "action": "none"}\n' * 40_000)
    devenv("restart", "-t", "0", "web")
    assert path.with_name("journal.jsonl.1").stat().st_size > 1 << 20
    assert not path.exists() or path.stat().st_size < 1 << 20
    devenv("down")
    assert not path.parent.exists()
