"""`up --wait`: what it believes, and what it says while it waits."""

from __future__ import annotations

import pytest

from tests.support import projects, runner

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
            command: [sh, -c, "sleep 0.15; echo no database >&2; exit 3"]
            restart: "{restart}"
          other: {{image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}}
        """
    )
    done = devenv("up", "-d", "--wait", code=1)
    assert "service `web` did not get ready: `shop-web-1` exited with 3" in done.stderr
    assert "no database" in done.stderr


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
