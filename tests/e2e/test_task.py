"""The project's own commands: ``devenv task`` and ``devenv ci``."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from xml.etree import ElementTree as etree

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
    name: shop
    services:
      web:
        image: "host:"
        command: [sh, -c, "echo served; touch /tmp/up; sleep 1000"]
        stop_signal: SIGKILL
        healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 0.1s}
        volumes: [".:/src"]
        working_dir: /src
    tasks:
      who: id -u
      words: [printf, "%s,"]
      line: printf "%s,"
      fail: exit 3
      build:
        command: cat src/* >out; echo built
        inputs: ["src/**"]
        outputs: [out]
      inside: {command: [cat, /proc/1/comm], service: web}
      after: {command: "echo after", depends_on: [build, fail]}
      all: {depends_on: [build, who], description: "All of it"}
      ready: {command: [test, -e, /tmp/up], service: web, depends_on: ["service:web"]}
"""


@pytest.fixture
def shop(project: projects.Project) -> projects.Project:
    project.write(SPEC)
    (project / "src").mkdir()
    (project / "src" / "a").write_text("one\n")
    os.chmod(project / "src", 0o777)
    os.chmod(project, 0o777)
    return project


def test_on_this_machine_as_who_one_is(anyone: runner.Devenv, shop: projects.Project) -> None:
    me = str(anyone.user.uid if anyone.user else 0)
    assert anyone("task", "who").stdout == f"{me}\n"
    # There is a supervisor now, whose preloaded processes look like root inside.
    anyone("up", "-d")
    assert anyone("task", "who").stdout == f"{me}\n"
    assert anyone("-f", "devenv.yaml", "task", "who").stdout == f"{me}\n"


def test_arguments_and_codes(devenv: runner.Devenv, shop: projects.Project) -> None:
    assert devenv("task", "words", "a b", "--force").stdout == "a b,--force,"
    assert devenv("task", "line", "a b", "$HOME").stdout == "a b,$HOME,"
    assert " Task fail  Failed  with exit code 3" in devenv("task", "fail", code=3).stderr
    done = devenv("task", "after", code=3)
    assert "after" not in done.stdout
    assert "did you mean `build`?" in devenv("task", "biuld", code=2).stderr


def test_it_is_skipped_while_nothing_has_changed(devenv: runner.Devenv, shop: projects.Project) -> None:
    assert devenv("task", "build").stdout == "built\n"
    done = devenv("task", "all")
    assert "Task build  Skipped" in done.stderr
    assert "built" not in done.stdout
    os.utime(shop / "src" / "a", (1, 1))
    assert devenv("task", "build").stdout == ""
    assert devenv("task", "--force", "build").stdout == "built\n"
    (shop / "src" / "b").write_text("two\n")
    assert devenv("task", "build").stdout == "built\n"
    assert (shop / "out").read_text() == "one\ntwo\n"
    (shop / "out").unlink()
    assert devenv("task", "build").stdout == "built\n"
    (shop / "src" / "b").unlink()
    assert devenv("task", "build").stdout == "built\n"


def test_in_a_service_that_runs_and_in_one_that_does_not(devenv: runner.Devenv, shop: projects.Project) -> None:
    assert devenv("task", "inside").stdout == "cat\n"
    assert devenv("container", "ls", "-aq").stdout == ""
    devenv("task", "ready")
    assert devenv.ps()["shop-web-1"]["Health"] == "healthy"
    assert devenv("task", "inside").stdout == "sh\n"


def test_they_are_listed(devenv: runner.Devenv, shop: projects.Project) -> None:
    lines = devenv("task").stdout.splitlines()
    assert lines[0].split() == ["TASK", "SERVICE", "WHAT", "IT", "DOES"]
    assert lines[2].split(None, 2) == ["all", "-", "All of it"]
    found = {each["Name"]: each for each in json.loads(devenv("task", "--format", "json").stdout)}
    assert found["ready"]["DependsOn"] == ["service:web"]
    assert devenv("--dry-run", "task", "all").stdout == "build\nwho\n"


def report(folder: pathlib.Path) -> list[tuple[str | None, bool]]:
    return [
        (case.get("name"), case.find("failure") is not None)
        for case in etree.parse(folder / "junit.xml").iter("testcase")
    ]


def test_ci(anyone: runner.Devenv, shop: projects.Project) -> None:
    # What somebody works in goes on, with another project's name.
    anyone("up", "-d")
    before = anyone.ps()
    shop.write({"devenv-ci/logs/gone.log": "of an earlier run, when there was such a service"})
    done = anyone(
        "ci", "--copy", "web:/tmp/up", "sh", "-c", "devenv ps -q | wc -l; echo $COMPOSE_PROJECT_NAME; exit 4", code=4
    )
    assert "shop-ci\n" in done.stdout
    folder = shop / "devenv-ci"
    assert report(folder)[0] == ("up", False)
    assert report(folder)[1][1]
    assert "served" in (folder / "logs" / "web.log").read_text()
    assert not (folder / "logs" / "gone.log").exists()
    assert (folder / "web" / "up").exists()
    assert '"shop-ci-web-1"' in (folder / "ps.json").read_text()
    assert {name: row["ID"] for name, row in anyone.ps().items()} == {name: row["ID"] for name, row in before.items()}
    assert "shop-ci" not in anyone("container", "ls", "-a").stdout
    anyone("down")


def test_ci_in_a_service_and_of_a_task(devenv: runner.Devenv, shop: projects.Project) -> None:
    assert "served" not in devenv("ci", "--in", "web", "cat", "/proc/1/comm").stdout
    assert devenv("ci", "build").stdout.startswith("built\n")
    assert devenv("ls", "-aq").stdout == ""


def test_ci_that_does_not_come_up(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write("""
        name: shop
        services: {web: {image: "host:", command: [sh, -c, "echo broken; exit 3"], ready: {tcp: 1}}}
    """)
    done = devenv("ci", "touch", "ran", code=1)
    assert "exited with 3" in done.stderr
    assert not (project / "ran").exists()
    assert report(project / "devenv-ci") == [("up", True)]
    assert "broken" in (project / "devenv-ci" / "logs" / "web.log").read_text()
    assert devenv("ls", "-aq").stdout == ""


def test_an_interrupted_ci_leaves_nothing(devenv: runner.Devenv, shop: projects.Project) -> None:
    running = devenv.start("ci", "sh", "-c", "touch begun; sleep 1000")
    try:
        eventually((shop / "begun").exists, 60)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    finally:
        running.kill()
        running.communicate()
    assert devenv("ls", "-aq").stdout == ""
    assert len(report(shop / "devenv-ci")) == 2
