"""A job whose end others wait for is done once, and again when what it is made of has changed."""

from __future__ import annotations

import re

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
    name: shop
    services:
      db:
        image: "host:"
        command: [sh, -c, "touch /tmp/up; exec sleep {seconds}"]
        stop_signal: SIGKILL
        healthcheck: {{test: [CMD, test, -e, /tmp/up], interval: 0.1s, retries: 100}}
      migrate:
        image: "host:"
        command: [sh, -c, "cat /migrations/* >/dev/null && echo ran >>/data/ran"]
        volumes: ["./migrations:/migrations:ro", "data:/data"]
        depends_on: {{db: {{condition: service_healthy}}}}
        {more}
      web:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["data:/data"]
        depends_on: {{migrate: {{condition: service_completed_successfully}}}}
    volumes: {{data: }}
"""


def ran(devenv: runner.Devenv) -> int:
    return len(devenv.inside("web", "cat /data/ran").split())


@pytest.fixture
def shop(anyone: runner.Devenv, project: projects.Project) -> projects.Project:
    project.write(SPEC.format(seconds=1000, more="")).write({"migrations/1.sql": "one"})
    anyone("up", "-d", "--wait")
    return project


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_it_runs_once_and_again_when_its_files_change(anyone: runner.Devenv, shop: projects.Project) -> None:
    assert ran(anyone) == 1
    told = anyone("up", "-d", "--wait").stderr
    assert "Container shop-migrate-1  Done  nothing that it is made of has changed" in told
    assert ran(anyone) == 1
    assert "the next `up` leaves it: nothing that it is made of has changed" in anyone("why", "migrate").stdout
    shop.write({"migrations/2.sql": "two"})
    assert "the next `up` runs it again: `./migrations` changed" in anyone("why", "migrate").stdout
    assert "container.start  service:migrate:1  (`./migrations` changed)" in anyone("plan").stdout
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 2
    assert re.search(r"started .* ago: `\./migrations` changed", anyone("why", "migrate").stdout)
    # To name it is to ask for it; so is to force everything.
    anyone("up", "-d", "--wait", "web")
    assert ran(anyone) == 2
    anyone("up", "-d", "--wait", "migrate")
    assert ran(anyone) == 3
    anyone("run", "--rm", "-T", "web", "true")
    assert ran(anyone) == 3


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_it_follows_what_it_worked_upon(anyone: runner.Devenv, shop: projects.Project) -> None:
    shop.write(SPEC.format(seconds=2000, more=""))
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 2
    # Made anew by a command that was not about the job.
    anyone("up", "-d", "--force-recreate", "--no-deps", "db")
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 3
    anyone("restart", "-t", "0", "web")
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 3
    anyone("stop", "-t", "0", "db")
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 4
    anyone("snapshot", "save", "before")
    shop.write({"migrations/2.sql": "two"})
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 5
    # What it had done since is undone.
    anyone("snapshot", "restore", "before")
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 5


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_one_that_is_run_each_time(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.format(seconds=1000, more="once: false")).write({"migrations/1.sql": "one"})
    anyone("up", "-d", "--wait")
    anyone("up", "-d", "--wait")
    assert ran(anyone) == 2


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_one_that_fails_fails_the_wait(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.format(seconds=1000, more=""))
    (project / "migrations").mkdir()
    assert "exited with" in anyone("up", "-d", "--wait", code=1).stderr
    project.write({"migrations/1.sql": "one"})
    anyone("up", "-d", "--wait")
    eventually(lambda: ran(anyone) == 1, 10)
