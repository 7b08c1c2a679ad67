"""What waits for what, what happens when a service fails, and how it is stopped."""

from __future__ import annotations

import datetime
import itertools
import json
import pathlib
import time
from typing import Any

import pytest

from tests.support import machine, projects, runner
from tests.support.polling import always, eventually

pytestmark = pytest.mark.root


def inspect(devenv: runner.Devenv, name: str) -> dict[str, Any]:
    return devenv.ps()[name]


def order(project: projects.Project) -> list[str]:
    """What services wrote to the file that all of them have mounted."""
    path = project / "order"
    return path.read_text().split() if path.exists() else []


def test_each_condition_is_waited_for(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        x-all: &all
          image: "host:"
          volumes: [".:/shared"]
          stop_signal: SIGKILL
        services:
          job:
            <<: *all
            command: [sh, -c, "sleep 0.3; echo job >>/shared/order"]
          db:
            <<: *all
            command: [sh, -c, "sleep 0.3; echo db >>/shared/order; touch /ready; exec sleep 1000"]
            healthcheck: {test: [CMD, test, -e, /ready], interval: 0.1s, start_period: 5s, start_interval: 0.1s}
          api:
            <<: *all
            command: [sh, -c, "echo api >>/shared/order; exec sleep 1000"]
            depends_on:
              db: {condition: service_healthy}
              job: {condition: service_completed_successfully}
          web:
            <<: *all
            command: [sh, -c, "echo web >>/shared/order; exec sleep 1000"]
            depends_on: {api: {condition: service_started}}
        """
    )
    devenv("up", "-d")
    eventually(lambda: len(order(project)) == 4)
    assert set(order(project)[:2]) == {"db", "job"}
    assert order(project)[2:] == ["api", "web"]


@pytest.mark.parametrize(
    ("failing", "condition", "reason"),
    [
        ("command: [sh, -c, 'exit 7']", "service_completed_successfully", "7"),
        (
            "command: [sleep, '1000']\n    healthcheck: {test: [CMD, 'false'], interval: 0.1s, retries: 2}",
            "service_healthy",
            "unhealthy",
        ),
        ("command: [sh, -c, 'exit 7']\n    healthcheck: {test: [CMD, 'true'], interval: 30s}", "service_healthy", "7"),
    ],
)
def test_a_failed_dependency_stops_what_needs_it(
    devenv: runner.Devenv, project: projects.Project, failing: str, condition: str, reason: str
) -> None:
    project.write(
        "name: shop\nservices:\n"
        f'  db:\n    image: "host:"\n    stop_signal: SIGKILL\n    {failing}\n'
        '  web:\n    image: "host:"\n    command: [sleep, "1000"]\n'
        f"    depends_on: {{db: {{condition: {condition}}}}}\n"
    )
    result = devenv("up", "-d", code=1)
    assert inspect(devenv, "shop-web-1")["State"] == "created"
    assert "`db`" in result.stderr
    assert reason in result.stderr


def test_an_optional_dependency_may_fail(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          job: {image: "host:", command: [sh, -c, "exit 7"]}
          web:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            depends_on: {job: {condition: service_completed_successfully, required: false}}
        """
    )
    devenv("up", "-d")
    assert inspect(devenv, "shop-web-1")["State"] == "running"


def test_a_crash_loop_backs_off(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [sh, -c, "date +%s.%N >>/shared/order; exit 1"]
            volumes: [".:/shared"]
            restart: always
        """
    )
    devenv("up", "-d")
    eventually(lambda: len(order(project)) >= 5, 15)
    times = [float(text) for text in order(project)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    # 0.1 s, doubled each time: the machine may add to a gap, never take from it.
    assert gaps[3] > gaps[0]
    assert gaps[3] >= 0.7
    row = inspect(devenv, "shop-web-1")
    assert row["State"] in {"restarting", "running", "exited"}
    devenv("stop")
    count = len(order(project))
    always(lambda: len(order(project)) == count, 1.0)


def test_on_failure_gives_up_after_its_number(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          bad:
            image: "host:"
            command: [sh, -c, "echo x >>/shared/order; exit 1"]
            volumes: [".:/shared"]
            restart: "on-failure:2"
          good: {image: "host:", command: ["true"], restart: on-failure}
        """
    )
    devenv("up", "-d")
    eventually(lambda: len(order(project)) == 3)
    eventually(lambda: inspect(devenv, "shop-bad-1")["State"] == "exited")
    always(lambda: len(order(project)) == 3, 1.0)
    assert inspect(devenv, "shop-good-1")["State"] == "exited"


def test_unless_stopped_stays_stopped(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, restart: unless-stopped}
        """
    )
    devenv("up", "-d")
    devenv("kill", "web")
    always(lambda: inspect(devenv, "shop-web-1")["State"] == "exited", 0.5)
    devenv("up", "-d")
    assert inspect(devenv, "shop-web-1")["State"] == "running"


def test_who_ignores_sigterm_is_killed_after_the_grace_period(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [sh, -c, "trap '' TERM; echo deaf; while :; do sleep 1; done"]
            stop_grace_period: 1s
        """
    )
    devenv("up", "-d")
    eventually(lambda: "deaf" in devenv("logs", "web").stdout)
    begin = time.monotonic()
    devenv("stop")
    assert 1.0 <= time.monotonic() - begin < 4.0
    assert inspect(devenv, "shop-web-1")["ExitCode"] == 137
    devenv("start")
    eventually(lambda: "deaf" in devenv("logs", "--tail", "1", "web").stdout)
    begin = time.monotonic()
    devenv("down", "-t", "0")
    assert time.monotonic() - begin < 1.0


def test_the_stop_signal_is_sent(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [sh, -c, "trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done"]
            stop_signal: SIGUSR1
        """
    )
    devenv("up", "-d")
    eventually(lambda: "up" in devenv("logs", "web").stdout)
    devenv("stop")
    assert inspect(devenv, "shop-web-1")["ExitCode"] == 5


def test_wait_succeeds_fails_and_times_out(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          slow:
            image: "host:"
            command: [sh, -c, "sleep 0.4; touch /ready; exec sleep 1000"]
            stop_signal: SIGKILL
            healthcheck: {test: [CMD, test, -e, /ready], interval: 0.1s, retries: 100}
          never:
            image: "host:"
            profiles: [never]
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            healthcheck: {test: [CMD, "false"], interval: 0.1s, retries: 1000}
        """
    )
    devenv("up", "-d", "--wait")
    assert inspect(devenv, "shop-slow-1")["Health"] == "healthy"
    result = devenv("up", "-d", "--wait", "--wait-timeout", "1", "never", code=1)
    assert "`never`" in result.stderr


def test_stopped_in_the_opposite_order(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        x-all: &all
          image: "host:"
          volumes: [".:/shared"]
        services:
          db:
            <<: *all
            command: [sh, -c, "trap 'echo db >>/shared/order; exit' TERM; while :; do sleep 0.02; done"]
          web:
            <<: *all
            depends_on: [db]
            command: [sh, -c, "trap 'sleep 0.2; echo web >>/shared/order; exit' TERM; while :; do sleep 0.02; done"]
        """
    )
    devenv("up", "-d")
    time.sleep(0.2)  # for the traps to be set
    devenv("down")
    assert order(project) == ["web", "db"]


@machine.needs_cgroup_v1
def test_out_of_memory_is_told(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            mem_limit: 32m
            memswap_limit: 32m
            command: [python3, -c, "x = bytearray(200_000_000)"]
        """
    )
    devenv("up", "-d")
    eventually(lambda: inspect(devenv, "shop-web-1")["State"] == "exited")
    assert inspect(devenv, "shop-web-1")["ExitCode"] == 137
    (state,) = pathlib.Path(devenv.data, "containers").glob("*/state.json")
    assert json.loads(state.read_text())["oom_killed"] is True


def test_a_health_check_that_fails_later_shows(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            healthcheck: {test: [CMD-SHELL, "test ! -e /sick"], interval: 0.1s, retries: 2}
        """
    )
    devenv("up", "-d", "--wait")
    devenv("exec", "-T", "web", "touch", "/sick")
    eventually(lambda: inspect(devenv, "shop-web-1")["Health"] == "unhealthy")
    devenv("exec", "-T", "web", "rm", "/sick")
    eventually(lambda: inspect(devenv, "shop-web-1")["Health"] == "healthy")


def test_created_at_is_a_time(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write('name: shop\nservices: {web: {image: "host:", command: [sleep, "9"], stop_signal: SIGKILL}}')
    devenv("up", "-d")
    created = inspect(devenv, "shop-web-1")["CreatedAt"]
    then = datetime.datetime.strptime(" ".join(created.split()[:3]), "%Y-%m-%d %H:%M:%S %z")
    assert abs(then.timestamp() - time.time()) < 60
