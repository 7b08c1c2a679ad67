from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from devenv import errors
from devenv.cli import app, context, inventory, ps
from devenv.util import fs, identity, paths
from tests.unit.cli import support


@pytest.fixture
def project(tmp_path: pathlib.Path) -> context.Found:
    where = paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))
    return context.Found(identity.Project(support.PROJECT_ID, "shop", str(tmp_path)), where, ("web", "db"))


@pytest.fixture
def shown(project: context.Found, monkeypatch: pytest.MonkeyPatch) -> list[inventory.Container]:
    """The containers that commands see; the test fills the list."""
    containers: list[inventory.Container] = []
    monkeypatch.setattr(context, "find", lambda _: project)
    monkeypatch.setattr(context.Found, "check_services", lambda _, names: list(names or ()))
    monkeypatch.setattr(inventory, "load", lambda *_: containers)
    monkeypatch.setattr(ps.time, "time", lambda: 1180.0)
    return containers


def publish(project: context.Found, container: inventory.Container, port: int, target: int, host: str = "") -> None:
    folder = project.where.project_run(support.PROJECT_ID)
    pathlib.Path(folder).mkdir(parents=True)
    publication = {"target": target, "first": port, "last": port, "host_ip": host, "protocol": "tcp"}
    entry = {"key": "k", "container": container.record.id, "publication": publication, "port": port}
    fs.write_json(f"{folder}/ports.json", [entry])


def test_json_has_docker_composes_fields(
    project: context.Found, shown: list[inventory.Container], capsys: pytest.CaptureFixture[str]
) -> None:
    web = support.container("web-1", health="healthy", ports=({"target": 80}, {"target": 9000}))
    shown += [web, support.container("db-1", "exited", finished=1178.0)]
    publish(project, web, 8080, 80)
    assert app.main(["ps", "--format", "json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found.pop("CreatedAt").startswith("1970-01-01 ")
    assert found == {
        "Command": '"sleep 1000"',
        "ExitCode": 0,
        "Health": "healthy",
        "ID": web.record.id[:12],
        "Image": "host:",
        "Labels": "a=1,b=2",
        "LocalVolumes": "0",
        "Mounts": "",
        "Name": "shop-web-1",
        "Names": "shop-web-1",
        "Networks": "default",
        "Ports": "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 9000/tcp",
        "Project": "shop",
        "Publishers": [
            {"URL": "0.0.0.0", "TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp"},
            {"URL": "::", "TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp"},
            {"URL": "", "TargetPort": 9000, "PublishedPort": 0, "Protocol": "tcp"},
        ],
        "Reasons": [],
        "RunningFor": "3 minutes ago",
        "Service": "web",
        "Size": "0B",
        "State": "running",
        "Status": "Up 3 minutes (healthy)",
    }


def test_table(shown: list[inventory.Container], capsys: pytest.CaptureFixture[str]) -> None:
    shown += [support.container("web-1"), support.container("db-1", "exited", finished=1178.0, exit_code=None)]
    assert app.main(["ps", "-a"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME         IMAGE   COMMAND        SERVICE   CREATED         STATUS                       PORTS",
        'shop-web-1   host:   "sleep 1000"   web       3 minutes ago   Up 3 minutes',
        'shop-db-1    host:   "sleep 1000"   db        3 minutes ago   Exited (255) 2 seconds ago',
    ]


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        ([], ["web"]),
        (["-a"], ["web", "db", "old"]),
        (["--status", "exited"], ["db"]),
        (["--filter", "status=created", "--filter", "status=running"], ["web", "old"]),
        (["-a", "--no-orphans"], ["web", "db"]),
        (["-a", "--orphans=false"], ["web", "db"]),
        (["-a", "db"], ["db"]),
    ],
)
def test_which_are_shown(
    shown: list[inventory.Container], argv: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown += [
        support.container("web-1"),
        support.container("db-1", "exited", finished=1178.0),
        support.container("old-1", "created"),
    ]
    assert app.main(["ps", "--services", *argv]) == 0
    assert capsys.readouterr().out.split() == names


def test_quiet_prints_whole_ids(shown: list[inventory.Container], capsys: pytest.CaptureFixture[str]) -> None:
    shown += [support.container("web-1")]
    assert app.main(["ps", "-q"]) == 0
    assert capsys.readouterr().out == f"{shown[0].record.id}\n"


def test_port(project: context.Found, shown: list[inventory.Container], capsys: pytest.CaptureFixture[str]) -> None:
    shown += [support.container("web-1", ports=({"target": 80},))]
    publish(project, shown[0], 8080, 80, host="::1")
    assert app.main(["port", "web", "80"]) == 0
    assert capsys.readouterr().out == "[::1]:8080\n"
    assert app.main(["port", "web", "81"]) == 1
    assert "port 81/tcp of `shop-web-1` is not published" in capsys.readouterr().err


def test_ls_counts_states_of_each_project(
    shown: list[inventory.Container], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown += [support.container("web-1"), support.container("web-2"), support.container("db-1", "exited")]
    shown += [support.container("x-1", "exited", project="idle", project_id="idle-1")]
    assert app.main(["ls"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["shop   exited(1), running(2)   /srv/shop/devenv.yaml"]
    assert app.main(["ls", "-a", "--format", "json", "--filter", "name=i*"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"Name": "idle", "Status": "exited(1)", "ConfigFiles": "/srv/shop/devenv.yaml"}
    ]


def test_picking_a_container() -> None:
    containers = [
        support.container("web-1", "exited"),
        support.container("web-2"),
        support.container("db-1", "created"),
    ]
    running = frozenset({"running"})
    assert inventory.pick(containers, "web", 0, states=running).record.number == 2
    with pytest.raises(errors.ContainerError, match="service `web` number 1 is not running: it is exited"):
        inventory.pick(containers, "web", 1, states=running)
    with pytest.raises(errors.ContainerError, match="service `cache` has no container"):
        inventory.pick(containers, "cache", 0, states=running)
