"""`pre_start`, `post_start` and `pre_stop`: when they run, as whom, and what their failing means."""

from __future__ import annotations

import shutil

import pytest

from tests.support import engine, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root


def told(project: projects.Project) -> list[str]:
    """What everybody has written into the folder that all of them have."""
    path = project / "order"
    return path.read_text().split() if path.exists() else []


def fresh(project: projects.Project) -> None:
    (project / "order").unlink(missing_ok=True)


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_pre_start_runs_before_the_first_start(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          db:
            image: "host:"
            command: [sh, -c, "sleep 0.2; echo db >>/shared/order; touch /tmp/up; exec sleep 1000"]
            volumes: [".:/shared"]
            stop_signal: SIGKILL
            healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 0.1s, retries: 100}
          web:
            image: "host:"
            command: [sh, -c, "cat /data/made /anonymous/made >>/shared/order; exec sleep 1000"]
            stop_signal: SIGKILL
            environment: {WORD: service, KEPT: kept}
            volumes: [".:/shared", "data:/data", "/anonymous"]
            depends_on: {db: {condition: service_healthy}}
            deploy: {replicas: 2}
            pre_start:
              - command: [sh, -c, "echo one >>/shared/order; echo $$WORD-$$KEPT-$$PWD >/data/made"]
                environment: {WORD: hook}
                working_dir: /etc
              - command: [sh, -c, "echo each >>/shared/order; echo own >/anonymous/made"]
                per_replica: true
        volumes: {data: }
        """
    )
    anyone("up", "-d")
    eventually(lambda: len(told(project)) == 8, 20)
    ran = told(project)
    assert ran[:3] == ["db", "one", "each"]
    assert sorted(ran[3:]) == ["each", "hook-kept-/etc", "hook-kept-/etc", "own", "own"]
    # Nothing of them is left, and who has run once needs them no more.
    assert set(anyone.ps()) == {"shop-db-1", "shop-web-1", "shop-web-2"}
    fresh(project)
    anyone("up", "-d")
    anyone("restart", "-t", "0", "web")
    eventually(lambda: len(told(project)) == 4, 20)
    assert set(told(project)) == {"hook-kept-/etc", "own"}
    # One more replica has its own alone; one that is made again has them all.
    fresh(project)
    anyone("up", "-d", "--scale", "web=3")
    eventually(lambda: len(told(project)) == 3, 20)
    assert told(project)[0] == "each"
    fresh(project)
    anyone("up", "-d", "--force-recreate", "--no-deps", "--scale", "web=1", "web")
    eventually(lambda: len(told(project)) == 4, 20)
    assert told(project)[:2] == ["one", "each"]


FAILING = """
    name: shop
    services:
      web:
        image: "host:"
        command: [sh, -c, "echo web >>/shared/order; exec sleep 1000"]
        stop_signal: SIGKILL
        volumes: [".:/shared"]
        pre_start:
          - {command: [sh, -c, "echo one >>/shared/order"]}
          - {command: [sh, -c, "echo two >>/shared/order; test -e /shared/good || { echo no good >&2; exit 3; }"]}
          - {command: [sh, -c, "echo three >>/shared/order"]}
      after: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, depends_on: [web]}
"""


def test_a_hook_that_fails(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(FAILING)
    said = devenv("up", "-d", code=1).stderr
    assert "`shop-web-1` is not started: its `pre_start` hook `sh -c" in said
    assert "ended with 3" in said
    assert "no good" in said
    assert told(project) == ["one", "two"]
    rows = devenv.ps()
    assert {name: row["State"] for name, row in rows.items()} == {
        "shop-after-1": "created",
        "shop-web-1": "created",
        "shop-web-1-pre_start-2": "exited",
    }
    project.write({"good": ""})
    devenv("up", "-d")
    eventually(lambda: told(project) == ["one", "two", "one", "two", "three", "web"], 20)
    assert set(devenv.ps()) == {"shop-after-1", "shop-web-1"}


LONG = """
    name: shop
    services:
      web:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: [".:/shared"]
        pre_start: [{command: [sh, -c, "echo begun >>/shared/order; test -e /shared/good || exec sleep 1000"]}]
"""


def test_given_up_while_a_hook_runs(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(LONG)
    running = devenv.start("up", "-d")
    eventually(lambda: told(project) == ["begun"], 20)
    devenv("down", "-t", "0")
    running.communicate(timeout=30)
    assert devenv.ps() == {}


def test_a_supervisor_that_is_killed_while_a_hook_runs(devenv: runner.Devenv, project: projects.Project) -> None:
    """The next one ends it before it runs it again: two migrations at once are one too many."""
    project.write(LONG)
    running = devenv.start("up", "-d")
    eventually(lambda: told(project) == ["begun"], 20)
    project.write({"good": ""})
    engine.kill(engine.find(devenv, "supervisor"))
    eventually(lambda: told(project) == ["begun", "begun"], 30)
    eventually(lambda: devenv.ps().get("shop-web-1", {}).get("State") == "running", 30)
    running.communicate(timeout=30)
    eventually(lambda: set(devenv.ps()) == {"shop-web-1"}, 20)


def test_a_hook_in_another_image(devenv: runner.Devenv, project: projects.Project) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    project.write(
        {
            "word": "from the tool",
            "Dockerfile": 'FROM scratch\nCOPY sh /bin/sh\nCOPY word /word\nENTRYPOINT ["/bin/sh", "-c"]\n',
        }
    )
    shutil.copy(busybox, project / "sh")
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            entrypoint: [sleep]
            command: ["1000"]
            stop_signal: SIGKILL
            volumes: [".:/shared"]
            pre_start: [{image: "tool:1", command: ["read said </word; echo $$said >/shared/order"]}]
        """
    )
    assert "tool:1" in devenv("up", "-d", "--pull", "never", code=4).stderr
    devenv("image", "build", "-t", "tool:1", ".")
    devenv("up", "-d")
    assert told(project) == ["from", "the", "tool"]
    # It belongs to the service: another one under the name makes the container anew.
    project.write({"word": "another"})
    devenv("image", "build", "-t", "tool:1", ".")
    assert "(pre_start changed)" in devenv("plan").stdout
    devenv("up", "-d")
    assert told(project) == ["another"]


def test_post_start_and_pre_stop(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [sh, -c, "trap 'echo stopped >>/shared/order; exit' TERM; while :; do sleep 0.05; done"]
            volumes: [".:/shared"]
            post_start:
              - {command: [sh, -c, "echo after-$$WORD >>/shared/order"], environment: {WORD: start}}
              - {command: [sh, -c, "id -u >/tmp/who"], user: "65534"}
            pre_stop:
              - {command: [sh, -c, "echo before >>/shared/order"]}
              - {command: [sh, -c, "echo can not >&2; exit 4"]}
              - {command: [sh, -c, "echo never >>/shared/order"]}
        """
    )
    devenv("up", "-d")
    assert told(project) == ["after-start"]
    assert devenv.inside("web", "cat /tmp/who") == "65534"
    said = devenv("restart", "web").stderr
    assert "`pre_stop` of `shop-web-1`: `sh -c echo can not >&2; exit 4` ended with 4" in said
    assert told(project)[1:] == ["before", "stopped", "after-start"]
    # Nothing can be run in one that is frozen.
    devenv("pause", "web")
    devenv("down")
    assert told(project)[4:] == ["stopped"]


def test_a_post_start_that_fails(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            post_start: [{command: [sh, -c, "echo no luck; exit 5"]}]
          after: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, depends_on: [web]}
        """
    )
    said = devenv("up", "-d", code=1).stderr
    assert "`post_start` of `shop-web-1`: `sh -c echo no luck; exit 5` ended with 5" in said
    assert "no luck" in said
    assert {name: row["State"] for name, row in devenv.ps().items()} == {
        "shop-web-1": "running",
        "shop-after-1": "created",
    }
