"""`up` and `down`: what is made, what is left alone, what is made anew, and what is gone afterwards."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from tests.support import engine, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SHOP = """
    name: shop
    services:
      db:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        environment: {SIZE: "1"}
        volumes: ["data:/data"]
      api:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        depends_on:
          db: {condition: service_started, restart: true}
      web:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        depends_on: [api]
    volumes: {data: {}}
"""


def containers(devenv: runner.Devenv) -> dict[str, tuple[str, int]]:
    """Name -> id and pid of what is on disk: the state itself, not what a command says of it."""
    found = {}
    for folder in pathlib.Path(devenv.data, "containers").glob("*"):
        made = json.loads((folder / "container.json").read_text())
        state = json.loads((folder / "state.json").read_text()) if (folder / "state.json").exists() else {}
        found[made["name"]] = (made["id"], state["pid"] if state.get("status") == "running" else 0)
    return found


@pytest.fixture
def shop(devenv: runner.Devenv, project: projects.Project) -> projects.Project:
    project.write(SHOP)
    devenv("up", "-d")
    return project


@pytest.mark.usefixtures("shop")
def test_a_second_up_does_nothing(devenv: runner.Devenv) -> None:
    before = containers(devenv)
    assert sorted(before) == ["shop-api-1", "shop-db-1", "shop-web-1"]
    assert all(engine.alive(pid) for _, pid in before.values())
    again = devenv("up", "-d")
    assert containers(devenv) == before
    assert "Creat" not in again.stderr
    assert "Start" not in again.stderr
    assert devenv.json("plan")["operations"] == []


def test_a_changed_value_makes_that_service_anew_and_its_restart_followers(
    devenv: runner.Devenv, shop: projects.Project
) -> None:
    before = containers(devenv)
    shop.edit(r'SIZE: "1"', 'SIZE: "2"')
    devenv("up", "-d")
    after = containers(devenv)
    assert after["shop-db-1"][0] != before["shop-db-1"][0]
    # `restart: true` follows with a restart or a new container; web asked for nothing.
    assert after["shop-api-1"][1] != before["shop-api-1"][1]
    assert after["shop-web-1"] == before["shop-web-1"]
    assert devenv("exec", "-T", "db", "printenv", "SIZE").stdout == "2\n"


def test_only_what_changed_is_made_anew(devenv: runner.Devenv, shop: projects.Project) -> None:
    before = containers(devenv)
    shop.write(SHOP.replace("depends_on: [api]", "depends_on: [api]\n        hostname: other"))
    devenv("up", "-d")
    after = containers(devenv)
    assert after["shop-web-1"][0] != before["shop-web-1"][0]
    assert {name: after[name] for name in ("shop-db-1", "shop-api-1")} == {
        name: before[name] for name in ("shop-db-1", "shop-api-1")
    }


@pytest.mark.usefixtures("shop")
def test_force_and_no_recreate(devenv: runner.Devenv) -> None:
    before = containers(devenv)
    devenv("up", "-d", "--force-recreate", "--no-deps", "web")
    after = containers(devenv)
    assert after["shop-web-1"][0] != before["shop-web-1"][0]
    assert after["shop-db-1"] == before["shop-db-1"]


def test_no_recreate_leaves_a_changed_service_alone(devenv: runner.Devenv, shop: projects.Project) -> None:
    before = containers(devenv)
    shop.edit(r'SIZE: "1"', 'SIZE: "2"')
    devenv("up", "-d", "--no-recreate")
    assert containers(devenv) == before


def test_named_services_bring_what_they_need(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SHOP)
    devenv("up", "-d", "api")
    assert sorted(containers(devenv)) == ["shop-api-1", "shop-db-1"]
    devenv("up", "-d", "--no-deps", "web")
    assert sorted(containers(devenv)) == ["shop-api-1", "shop-db-1", "shop-web-1"]


def test_no_start_makes_containers_only(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SHOP)
    devenv("up", "--no-start")
    assert {pid for _, pid in containers(devenv).values()} == {0}
    assert {row["State"] for row in devenv.ps().values()} == {"created"}
    devenv("start")
    assert all(engine.alive(pid) for _, pid in containers(devenv).values())


@pytest.mark.usefixtures("shop")
def test_scaling_up_and_down(devenv: runner.Devenv) -> None:
    before = containers(devenv)
    devenv("up", "-d", "--scale", "web=3")
    after = containers(devenv)
    assert sorted(after) == ["shop-api-1", "shop-db-1", "shop-web-1", "shop-web-2", "shop-web-3"]
    assert {name: after[name] for name in before} == before
    devenv("up", "-d", "--scale", "web=1")
    assert containers(devenv) == before
    devenv("up", "-d", "--scale", "web=0")
    assert sorted(containers(devenv)) == ["shop-api-1", "shop-db-1"]


@pytest.mark.usefixtures("shop")
def test_down_keeps_volumes_and_down_v_does_not(devenv: runner.Devenv) -> None:
    pids = [pid for _, pid in containers(devenv).values()]
    devenv("exec", "-T", "db", "sh", "-c", "echo kept >/data/file")
    devenv("down")
    assert containers(devenv) == {}
    assert not any(engine.alive(pid) for pid in pids)
    devenv("up", "-d")
    assert devenv("exec", "-T", "db", "cat", "/data/file").stdout == "kept\n"
    devenv("down", "-v")
    devenv("up", "-d", "db")
    assert devenv("exec", "-T", "db", "ls", "/data").stdout == ""


def test_two_projects_do_not_touch_each_other(devenv: runner.Devenv, project: projects.Project) -> None:
    """The same name in two folders: two projects."""
    project.write(SHOP)
    other = projects.Project(pathlib.Path(devenv.folder, "q")).write(SHOP)
    devenv("up", "-d")
    devenv("up", "-d", cwd=other)
    ids = {row["ID"] for row in devenv.ps().values()}
    others = {row["ID"] for row in devenv.ps(cwd=other).values()}
    assert len(ids) == len(others) == 3
    assert not ids & others
    devenv("exec", "-T", "db", "sh", "-c", "echo mine >/data/file")
    assert devenv("exec", "-T", "db", "ls", "/data", cwd=other).stdout == ""
    devenv("down", "-v", cwd=other)
    assert {row["State"] for row in devenv.ps().values()} == {"running"}
    assert devenv("exec", "-T", "db", "cat", "/data/file").stdout == "mine\n"


def test_orphans_are_named_and_removed_when_asked(devenv: runner.Devenv, shop: projects.Project) -> None:
    text = SHOP.replace("      web:", "      site:")
    shop.write(text)
    said = devenv("up", "-d").stderr
    assert "shop-web-1" in said
    assert "shop-web-1" in containers(devenv)
    devenv("up", "-d", "--remove-orphans")
    assert sorted(containers(devenv)) == ["shop-api-1", "shop-db-1", "shop-site-1"]


def test_profiles(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: shop
        services:
          web: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
          tool: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, profiles: [tools]}
        """
    )
    devenv("up", "-d")
    assert sorted(containers(devenv)) == ["shop-web-1"]
    devenv("--profile", "tools", "up", "-d")
    assert sorted(containers(devenv)) == ["shop-tool-1", "shop-web-1"]
    devenv("--profile", "tools", "down")
    assert containers(devenv) == {}


@pytest.mark.parametrize(("flags", "code"), [(("--abort-on-container-exit",), 3), (("--exit-code-from", "job"), 3)])
def test_attached_until_one_ends(
    devenv: runner.Devenv, project: projects.Project, flags: tuple[str, ...], code: int
) -> None:
    project.write(
        """
        name: shop
        services:
          web: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
          job: {image: "host:", command: [sh, -c, "echo working; exit 3"]}
        """
    )
    result = devenv("up", *flags, code=code)
    assert "working" in result.stdout
    assert {row["State"] for row in devenv.ps().values()} == {"exited"}


def test_fifty_services(devenv: runner.Devenv, project: projects.Project) -> None:
    services: dict[str, Any] = {}
    for number in range(50):
        services[f"s{number}"] = {"image": "host:", "command": ["sleep", "1000"], "stop_signal": "SIGKILL"}
        if number % 5:
            services[f"s{number}"]["depends_on"] = [f"s{number - 1}"]
    project.write(json.dumps({"name": "many", "services": services}))
    devenv("up", "-d", "--wait", timeout=100)
    found = containers(devenv)
    assert len(found) == 50
    assert all(engine.alive(pid) for _, pid in found.values())
    # Everybody knows everybody.
    assert devenv("exec", "-T", "s0", "getent", "hosts", "s49").stdout.split()[1:] == ["s49"]
    devenv("down", timeout=60)
    assert containers(devenv) == {}


@pytest.mark.parametrize(
    "text",
    [
        "services: {web: {imge: x}}",
        "services: {web: {image: 'host:', depends_on: [db]}}",
        "services: {a: {image: 'host:', depends_on: [b]}, b: {image: 'host:', depends_on: [a]}}",
        "services: [",
    ],
)
def test_a_bad_spec_leaves_nothing(devenv: runner.Devenv, project: projects.Project, text: str) -> None:
    project.write(text)
    result = devenv("up", "-d", code=2)
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert not pathlib.Path(devenv.data).exists()
    assert not list(pathlib.Path(devenv.run_directory).glob("projects/*"))


def test_a_service_that_can_not_start_leaves_the_others_and_says_so(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(
        """
        name: shop
        services:
          good: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
          bad: {image: "host:", command: [no-such-program]}
        """
    )
    result = devenv("up", "-d", code=1)
    assert "no-such-program" in result.stderr
    assert "Traceback" not in result.stderr
    rows = devenv.ps()
    assert rows["shop-good-1"]["State"] == "running"
    assert rows["shop-bad-1"]["State"] != "running"
    # Mended, the next `up` goes on.
    project.edit("no-such-program", "sleep, '1000'")
    devenv("up", "-d")
    eventually(lambda: {row["State"] for row in devenv.ps().values()} == {"running"})
    devenv("down", "-t", "0")
