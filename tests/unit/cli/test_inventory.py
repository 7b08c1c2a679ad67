from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from devenv.cli import inventory
from devenv.reconcile import record
from devenv.runtime import state
from devenv.util import fs, identity, paths
from tests.unit.cli import support


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    return paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))


def put(where: paths.Paths, name: str, found: dict[str, Any] | None = None, **more: Any) -> record.Record:
    made = support.made(name, **more)
    pathlib.Path(where.container(made.id)).mkdir(parents=True)
    record.save(where, made)
    if found is not None:
        fs.write_json(f"{where.container(made.id)}/state.json", {"id": made.id, **found})
    return made


def running() -> dict[str, Any]:
    pid = os.getpid()
    start = identity.process_start_time(pid)
    return {"status": "running", "pid": pid, "start_time": start, "boot_id": state.boot_id(), "started": 1.0}


def only(where: paths.Paths) -> inventory.Container:
    [container] = inventory.load(where, support.PROJECT_ID)
    return container


def test_one_that_was_never_started_is_created(where: paths.Paths) -> None:
    put(where, "web-1")
    assert only(where).state == "created"


def test_one_whose_process_lives_is_running(where: paths.Paths) -> None:
    made = put(where, "web-1", running())
    fs.write_json(f"{where.container(made.id)}/health.json", {"status": "healthy"})
    assert (only(where).state, only(where).health, only(where).pid) == ("running", "healthy", os.getpid())


@pytest.mark.parametrize("lie", [{"start_time": 1}, {"boot_id": "another"}, {"pid": None}])
def test_one_whose_process_is_gone_is_exited_with_an_unknown_code(where: paths.Paths, lie: dict[str, Any]) -> None:
    made = put(where, "web-1", {**running(), **lie})
    fs.write_json(f"{where.container(made.id)}/health.json", {"status": "healthy"})
    assert (only(where).state, only(where).exit_code, only(where).health) == ("exited", None, "")


@pytest.mark.parametrize(
    ("policy", "code", "supervised", "by_user", "expected"),
    [
        ({"condition": "always"}, 0, True, False, "restarting"),
        ({"condition": "always"}, 0, False, False, "exited"),
        ({"condition": "always"}, 0, True, True, "exited"),
        ({"condition": "on-failure"}, 0, True, False, "exited"),
        ({"condition": "on-failure", "max_attempts": 3}, 1, True, False, "restarting"),
        ({"condition": "on-failure", "max_attempts": 2}, 1, True, False, "exited"),
        ({"condition": "none"}, 1, True, False, "exited"),
    ],
)
def test_restarting_needs_a_policy_and_someone_who_does_it(
    where: paths.Paths, policy: dict[str, Any], code: int, supervised: bool, by_user: bool, expected: str
) -> None:
    ended = {"status": "stopped", "exit_code": code, "started": 1.0, "finished": 2.0, "restarts": 2}
    made = put(where, "web-1", ended, restart=policy)
    if supervised:
        folder = pathlib.Path(where.project_run(support.PROJECT_ID))
        folder.mkdir(parents=True)
        (folder / "supervisor.sock").touch()
    record.set_stopped_by_user(where, made.id, stopped=by_user)
    assert only(where).state == expected


def test_other_projects_are_not_seen(where: paths.Paths) -> None:
    put(where, "web-1")
    put(where, "db-1", project_id="other-1")
    assert [item.record.service for item in inventory.load(where, support.PROJECT_ID)] == ["web"]
    assert len(inventory.load(where)) == 2


def test_label_is_the_name_without_the_projects() -> None:
    assert support.container("web-1").label == "web-1"
    assert support.container("web-1", name="shop_web_1").label == "web_1"
    assert support.container("web-1", name="custom").label == "custom"


def test_an_end_counts_once_it_is_recorded(where: paths.Paths) -> None:
    made = put(where, "web-1", {**running(), "pid": None})
    assert (only(where).state, only(where).has_ended) == ("exited", False)
    fs.write_json(f"{where.container(made.id)}/state.json", {"id": made.id, "status": "stopped", "exit_code": None})
    assert only(where).has_ended


def test_an_end_that_is_recorded_while_one_looks_has_its_code(
    where: paths.Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(where, "web-1", running())
    file = f"{where.container(made.id)}/state.json"

    def dead_and_recorded(_: state.State) -> bool:
        fs.write_json(file, {"id": made.id, "status": "stopped", "exit_code": 7})
        return False

    monkeypatch.setattr(state, "is_alive", dead_and_recorded)
    (item,) = inventory.load(where)
    assert (item.has_ended, item.exit_code) == (True, 7)
