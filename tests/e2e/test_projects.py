"""Whole environments: several at once, large ones, changed ones, and in which order they go down."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

CHAIN = """
    name: chain
    x-service: &service
      image: "host:"
      volumes: ["order:/order"]
      entrypoint: [sh, -c, "trap 'echo $$0 >>/order/file; exit 0' TERM; echo up; while :; do sleep 0.02; done"]
    services:
      db: {<<: *service, command: [db], environment: {SIZE: "1"}}
      cache: {<<: *service, command: [cache]}
      api:
        <<: *service
        command: [api]
        depends_on:
          db: {condition: service_started, restart: true}
          cache: {condition: service_started}
      web: {<<: *service, command: [web], depends_on: [api]}
      # Its data is for the test to see after `down`.
      aside: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, volumes: ["order:/order", "data:/data"]}
    volumes: {order: {}, data: {}}
"""


def sleeping(name: str, *services: str, more: str = "") -> str:
    lines = [f"name: {name}", "services:"]
    lines += [
        f'  {each}: {{image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL{more}}}' for each in services
    ]
    return "\n".join([*lines, ""])


def ids(devenv: runner.Devenv, **more: Any) -> dict[str, str]:
    return {name: row["ID"] for name, row in devenv.ps(**more).items()}


def another(project: projects.Project, name: str) -> projects.Project:
    return projects.Project(project.path.parent / name, project.uid)


# -- the same again, and changes --------------------------------------------------------------------------------------


def test_a_second_up_changes_nothing(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(CHAIN)
    anyone("up", "-d")
    before = anyone.ps()
    again = anyone("up", "-d")
    assert "ing" not in again.stderr.replace("Running", "")
    assert anyone.json("plan") == {"operations": [], "notes": [], "done": []}
    after = anyone.ps()
    assert {name: (row["ID"], row["CreatedAt"]) for name, row in after.items()} == {
        name: (row["ID"], row["CreatedAt"]) for name, row in before.items()
    }
    # A comment, another order and another spelling are no change either.
    text = CHAIN.replace("environment: {SIZE:", "environment: {'SIZE':").replace(
        "command: [web], depends_on: [api]", "depends_on: [api], command: ['web']"
    )
    project.write("# hello\n" + "\n".join(text.splitlines()).replace("    ", "", 1).replace("\n    ", "\n"))
    assert anyone.json("plan")["operations"] == []


def test_a_changed_value_concerns_those_alone_who_asked(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(CHAIN)
    anyone("up", "-d")
    before = ids(anyone)
    project.edit('SIZE: "1"', 'SIZE: "2"')
    planned = anyone("plan").stdout
    assert "environment" in planned
    anyone("up", "-d")
    after = ids(anyone)
    changed = {name for name in before if before[name] != after[name]}
    # `restart: true` brings api again: the same container, started anew.
    assert changed == {"chain-db-1"}
    runs = {name: anyone("logs", "--no-log-prefix", name).stdout.split() for name in ("db", "cache", "api", "web")}
    assert runs == {"db": ["up"], "cache": ["up"], "api": ["up", "up"], "web": ["up"]}
    assert sorted(before) == sorted(after)
    assert anyone.inside("db", "echo $SIZE") == "2"
    assert anyone.json("plan")["operations"] == []
    # What stopped did so before what it needs.
    assert anyone.inside("aside", "cat /order/file").split() == ["api", "db"]


def test_scaling_up_and_down(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(sleeping("wide", "web", "db"))
    anyone("up", "-d")
    first = ids(anyone)
    anyone("up", "-d", "--scale", "web=4")
    assert sorted(ids(anyone)) == ["wide-db-1", *(f"wide-web-{number}" for number in (1, 2, 3, 4))]
    anyone("scale", "web=2")
    assert sorted(ids(anyone)) == ["wide-db-1", "wide-web-1", "wide-web-2"]
    # Without being told again it is one, as the spec says.
    anyone("up", "-d")
    assert ids(anyone) == first
    anyone("up", "-d", "--scale", "web=0")
    assert sorted(ids(anyone)) == ["wide-db-1"]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_down_goes_backwards_and_keeps_the_data(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(CHAIN)
    anyone("up", "-d")
    anyone.inside("aside", "echo kept >/data/file")
    eventually(lambda: anyone("logs", "--no-log-prefix").stdout.split() == ["up"] * 4)
    anyone("down")
    assert anyone.ps() == {}
    anyone("up", "-d", "aside")
    order = anyone.inside("aside", "cat /order/file").split()
    assert order[:2] == ["web", "api"]
    assert set(order[2:]) == {"db", "cache"}
    assert anyone.inside("aside", "cat /data/file") == "kept"
    anyone("down", "-v")
    anyone("up", "-d", "aside")
    assert anyone.inside("aside", "ls /order /data | grep -v :; true").split() == []


def test_down_of_one_service(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(sleeping("part", "web", "db"))
    devenv("up", "-d")
    devenv("down", "web")
    assert sorted(ids(devenv)) == ["part-db-1"]
    assert devenv.inside("db", "ls /sys/class/net").split() == ["eth0", "lo"]


def test_down_again_and_down_of_nothing_are_fine(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(sleeping("none", "web"))
    anyone("down")
    anyone("up", "-d")
    anyone("down")
    result = anyone("down")
    assert "rror" not in result.stderr


# -- several ----------------------------------------------------------------------------------------------------------


def test_two_projects_at_once_do_not_see_each_other(anyone: runner.Devenv, project: projects.Project) -> None:
    """Brought up at the very same time."""
    other = another(project, "q").write(sleeping("two", "web", "db"))
    project.write(sleeping("one", "web", "api"))
    commands = [anyone.start("up", "-d"), anyone.start("up", "-d", cwd=other)]
    for command in commands:
        said, _ = command.communicate(timeout=60)
        assert command.returncode == 0, said
    assert sorted(anyone.ps()) == ["one-api-1", "one-web-1"]
    assert sorted(anyone.ps(cwd=other)) == ["two-db-1", "two-web-1"]
    found = {row["Name"]: row["Status"] for row in anyone.json("ls")}
    assert found == {"one": "running(2)", "two": "running(2)"}
    assert anyone("exec", "-T", "api", "getent", "ahostsv4", "web").stdout
    assert anyone("exec", "-T", "web", "getent", "ahostsv4", "two-web-1", code=2).stdout == ""
    anyone("down", cwd=other)
    assert sorted(anyone.ps()) == ["one-api-1", "one-web-1"]
    assert {row["State"] for row in anyone.ps().values()} == {"running"}
    assert [row["Name"] for row in anyone.json("ls")] == ["one"]


def test_two_folders_with_one_name_are_two_projects(anyone: runner.Devenv, project: projects.Project) -> None:
    text = sleeping("same", "web", more=", volumes: ['data:/data']") + "volumes: {data: {}}\n"
    project.write(text)
    other = another(project, "q").write(text)
    anyone("up", "-d")
    anyone("up", "-d", cwd=other)
    assert not set(ids(anyone).values()) & set(ids(anyone, cwd=other).values())
    anyone.inside("web", "echo mine >/data/file")
    assert anyone.inside("web", "ls /data", cwd=other) == ""
    assert sorted(row["Name"] for row in anyone.json("ls")) == ["same", "same"]
    # A name that means two says so.
    outside = anyone("-p", "same", "ps", cwd=project.path.parent, code=None)
    assert outside.returncode != 0
    assert str(project.path) in outside.stderr
    assert str(other.path) in outside.stderr
    anyone("down", "-v", cwd=other)
    assert anyone.inside("web", "cat /data/file") == "mine"


def test_a_folder_in_the_project_is_the_project(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(sleeping("deep", "web"))
    project.write({"a/b/file": ""})
    anyone("up", "-d", cwd=project / "a" / "b")
    assert sorted(anyone.ps()) == sorted(anyone.ps(cwd=project / "a")) == ["deep-web-1"]
    link = project.path.parent / "link"
    os.symlink(project.path, link)
    assert sorted(anyone.ps(cwd=link)) == ["deep-web-1"]


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_fifty_services(anyone: runner.Devenv, project: projects.Project) -> None:
    services: dict[str, Any] = {}
    for number in range(50):
        services[f"s{number:02}"] = {"image": "host:", "command": ["sleep", "1000"], "stop_signal": "SIGKILL"}
        if number % 10:
            services[f"s{number:02}"]["depends_on"] = [f"s{number - 1:02}"]
    project.write(json.dumps({"name": "many", "services": services}))
    anyone("up", "-d", "--wait", timeout=100)
    before = ids(anyone)
    assert len(before) == 50
    anyone("up", "-d")
    assert ids(anyone) == before
    assert anyone("ps", "-q").stdout.count("\n") == 50
    # Everybody knows everybody.
    names = " ".join(services)
    found = anyone.inside("s00", f"for n in {names}; do getent ahostsv4 $n >/dev/null && echo; done | wc -l")
    assert found == "50"
    anyone("down", timeout=60)
    assert anyone.ps() == {}


# -- parts of a spec --------------------------------------------------------------------------------------------------


def test_profiles_and_orphans(anyone: runner.Devenv, project: projects.Project) -> None:
    more = 'command: [sleep, "1000"], stop_signal: SIGKILL, profiles: [tools], depends_on: [db]'
    tool = f'  tool: {{image: "host:", {more}}}\n'
    project.write(sleeping("part", "web", "db") + tool)
    anyone("up", "-d")
    assert sorted(ids(anyone)) == ["part-db-1", "part-web-1"]
    # Naming a service turns its profile on.
    anyone("up", "-d", "tool")
    assert sorted(ids(anyone)) == ["part-db-1", "part-tool-1", "part-web-1"]
    # A profile that is off makes no orphan.
    assert "rphan" not in anyone("up", "-d").stderr
    # Nor does it keep the container from going down with the others.
    anyone("down")
    assert ids(anyone) == {}
    anyone("up", "-d", "tool", "web")
    project.write(sleeping("part", "web"))
    said = anyone("up", "-d").stderr
    assert "part-db-1" in said
    assert "--remove-orphans" in said
    assert len(ids(anyone)) == 3
    anyone("up", "-d", "--remove-orphans")
    assert sorted(ids(anyone)) == ["part-web-1"]


def test_an_override_file_and_another_environment(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        {
            "devenv.yaml": sleeping("over", "web", more=", environment: {WORD: '${WORD:-none}', LEVEL: base}"),
            "devenv.override.yaml": "services: {web: {environment: {LEVEL: override}}}\n",
            "other.env": "WORD=file\n",
        }
    )
    devenv("up", "-d")
    assert devenv.inside("web", "echo $WORD $LEVEL") == "none override"
    devenv("--env-file", "other.env", "up", "-d")
    assert devenv.inside("web", "echo $WORD $LEVEL") == "file override"
    devenv("-f", "devenv.yaml", "up", "-d", env={"WORD": "shell"})
    assert devenv.inside("web", "echo $WORD $LEVEL") == "shell base"


def test_a_project_whose_folder_is_gone_can_be_taken_down(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(sleeping("gone", "web"))
    devenv("up", "-d")
    pid = int(devenv("exec", "-T", "web", "sh", "-c", "echo 1").stdout)
    assert pid == 1
    subprocess.run(["rm", "-rf", str(project.path)], check=True)
    assert [row["Name"] for row in devenv.json("ls", cwd="/")] == ["gone"]
    devenv("-p", "gone", "down", cwd="/")
    assert devenv.json("ls", "--all", cwd="/") == []
    assert not list(pathlib.Path(devenv.data).glob("containers/*"))
    pathlib.Path(project.path).mkdir()
