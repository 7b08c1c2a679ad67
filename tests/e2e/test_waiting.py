"""`up --wait`: what it believes, and what it says while it waits."""

from __future__ import annotations

import json

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root


@pytest.mark.parametrize("restart", ["no", "on-failure:1"])
def test_a_service_that_dies_at_once_is_not_ready(
    devenv: runner.Devenv, project: projects.Project, restart: str
) -> None:
    project.write(
        f"""
        name: shop
        services:
          web:
            image: "host:"
            command: [sh, -c, "sleep 0.15; echo looking; echo no database >&2; exit 3"]
            restart: "{restart}"
          other: {{image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}}
        """
    )
    done = devenv("up", "-d", "--wait", code=1)
    assert "service `web` did not get ready: `shop-web-1` exited with 3" in done.stderr
    assert {"looking", "no database"} <= {line.removeprefix("note: ") for line in done.stderr.splitlines()}


def test_a_job_that_ended_well_is_ready(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          job: {image: "host:", command: [sh, -c, "sleep 0.1"]}
          web: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
        """
    )
    devenv("up", "-d", "--wait")
    assert {row["State"] for row in devenv.ps().values()} == {"running", "exited"}


def test_what_is_waited_for_is_told_everywhere(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          db:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            healthcheck:
              test: [CMD-SHELL, "test -e /tmp/up || { echo not there yet; exit 1; }"]
              interval: 0.1s
              retries: 1000
          migrate: {image: "host:", command: [sh, -c, "until test -e /tmp/up; do sleep 0.05; done"]}
          web:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
        """
    )
    running = devenv.start("--progress", "json", "up", "-d")

    def reasons() -> dict[str, dict[str, object]]:
        row = devenv.ps().get("shop-web-1") or {}
        return {str(each.get("service")): each for each in row.get("Reasons") or []}

    try:
        eventually(lambda: "last: not there yet" in str(reasons().get("db", {}).get("text")), 20)
        db, migrate = reasons()["db"], reasons()["migrate"]
        assert (db["kind"], db["condition"]) == ("dependency", "healthy")
        assert str(db["text"]).startswith("waits for db: healthy (")
        assert migrate["text"] == "waits for migrate: completed"
        head, *rows = devenv("ps", "-a").stdout.splitlines()
        assert head.split()[-1] == "WHY"
        assert any("waits for migrate: completed" in row for row in rows if row.startswith("shop-web-1"))
        assert "  it waits for migrate: completed\n" in devenv("why", "web").stdout
        for service in ("db", "migrate"):
            devenv("exec", "-T", service, "touch", "/tmp/up")
        output, _ = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    told = [json.loads(line) for line in output.splitlines()]
    waits = [each for each in told if each["id"] == "Container shop-web-1" and each["text"] == "Waiting"]
    assert {reason["service"] for each in waits for reason in each["reasons"]} == {"db", "migrate"}
    assert devenv.ps()["shop-web-1"]["Reasons"] == []


def test_when_one_that_crashes_comes_back(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write("""
        name: shop
        services: {web: {image: "host:", command: [sh, -c, "exit 7"], restart: always}}
    """)
    devenv("up", "-d")

    def told() -> list[dict[str, object]]:
        return devenv.ps()["shop-web-1"]["Reasons"]  # type: ignore[no-any-return]

    eventually(lambda: any(each.get("crash_loop") for each in told()), 30)
    # Between two looks it may run for a moment.
    (back_off,) = eventually(told, 10)
    assert (back_off["kind"], back_off["exit_code"]) == ("back-off", 7)
    assert str(back_off["text"]).startswith("a crash loop, restarting in ")
