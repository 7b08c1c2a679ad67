"""Jobs that are done once: what makes one run again, in plans and in files."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import pytest

from devenv.reconcile import desired, jobs, observed, planner, record
from devenv.util import paths
from tests.support import shop
from tests.support.shop import service, stopped, there

JOB = service("migrate", depends_on={"db": shop.HEALTHY}, once=True)


def up(*seen: observed.Container, wanted: planner.Desired | None = None, **options: Any) -> str:
    plan = planner.plan_up(wanted or shop.shop(migrate=JOB), there(*seen), planner.UpOptions(**options))
    return shop.lines(plan.to_text())


def all_but(job: observed.Container, db: observed.Container = shop.ALL[0]) -> tuple[observed.Container, ...]:
    return (db, job, *shop.ALL[2:])


def test_one_that_ended_well_is_done() -> None:
    told = "nothing to do\ndone: service:migrate:1 (nothing that it is made of has changed)"
    assert up(*all_but(stopped("migrate"))) == told


@pytest.mark.parametrize(
    ("job", "cause"),
    [
        (stopped("migrate", changed="`./migrations` changed"), "`./migrations` changed"),
        (stopped("migrate", exit_code=3), "exited with 3"),
        (stopped("migrate", stopped_by_user=True), "stopped"),
        (stopped("migrate", exit_code=None), "ended, nobody saw how"),
    ],
)
def test_what_makes_it_run_again(job: observed.Container, cause: str) -> None:
    assert up(*all_but(job)) == f"1 container.start service:migrate:1 ({cause})"


def test_it_follows_its_dependencies() -> None:
    plan = up(*all_but(stopped("migrate"), stopped("db", stopped_by_user=True)))
    assert "container.start service:migrate:1 (`db` is started again) after" in plan
    plan = up(*all_but(stopped("migrate")), wanted=shop.shop(migrate=JOB, db=service("db", changed="image")))
    assert "container.start service:migrate:1 (`db` is made anew) after" in plan
    # What runs another job again does so for those that follow it.
    second = service("seed", depends_on={"migrate": shop.COMPLETED}, once=True)
    wanted = shop.shop(migrate=JOB)
    wanted = dataclasses.replace(wanted, services={**wanted.services, "seed": second})
    seen = (*all_but(stopped("migrate", changed="`./migrations` changed")), stopped("seed"))
    assert "container.start service:seed:1 (`migrate` is started again) after" in up(*seen, wanted=wanted)


def test_it_follows_its_volumes() -> None:
    job = dataclasses.replace(JOB, volumes=("shop_data",))
    plan = planner.plan_up(shop.shop(migrate=job), there(*all_but(stopped("migrate")), volumes=()))
    assert "container.start service:migrate:1 (its volume `shop_data` is new)" in shop.lines(plan.to_text())


def test_who_names_it_wants_it() -> None:
    seen = all_but(stopped("migrate"))
    assert "container.start service:migrate:1 (asked for)" in up(*seen, services=("migrate",), again={"migrate"})
    assert "done: service:migrate:1" in up(*seen, services=("web",), again={"web"})
    assert "container.create service:migrate:1 (asked for)" in up(*seen, recreate="force")


def test_a_recovery_runs_none_again() -> None:
    seen = there(*all_but(stopped("migrate", changed="`./migrations` changed")))
    assert planner.plan_recover(shop.shop(migrate=JOB), seen, services=shop.shop().services).is_empty


# -- files ---------------------------------------------------------------------------------------------------------


def environment(folder: pathlib.Path, **more: Any) -> desired.Environment:
    services = {"migrate": {"image": "x", **more}, "web": {"depends_on": {"migrate": {"condition": jobs.COMPLETED}}}}
    return desired.Environment(project={"services": services}, directory=str(folder), config_files=(), scale={})


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("a.sql", "deep/b.sql", ".git/index"):
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (1000, 1000))
    return tmp_path / "p"


@pytest.fixture
def made(folder: pathlib.Path) -> record.Record:
    values: dict[str, Any] = {field.name: "" for field in dataclasses.fields(record.Record)}
    values |= {"id": "j" * 64, "service": "migrate", "depends_on": {"db": {}}, "volumes": (), "oneoff": False}
    values |= {"mounts": ({"type": "bind", "source": str(folder), "target": "/p", "name": "", "read_only": True},)}
    return record.Record(**values)


@pytest.fixture
def where(tmp_path: pathlib.Path, made: record.Record) -> paths.Paths:
    found = paths.Paths(data=f"{tmp_path}/data", run=f"{tmp_path}/run")
    os.makedirs(found.container(made.id))
    return found


def db(number: str) -> Any:
    class Other:
        id, service, oneoff = number, "db", False

    return Other()


def test_files_are_compared_by_their_contents(where: paths.Paths, made: record.Record, folder: pathlib.Path) -> None:
    here = environment(folder)
    assert jobs.changed(where, here, made, []) == "nobody has noted what it was run with"
    jobs.begin(where, here, made, [db("1")])
    assert jobs.changed(where, here, made, [db("1")]) == ""
    (folder / "a.sql").write_text("a.sql")  # as a checkout there and back leaves it
    (folder / ".git/index").write_text("another")
    assert jobs.changed(where, here, made, [db("1")]) == ""
    (folder / "deep/b.sql").write_text("other")
    assert jobs.changed(where, here, made, [db("1")]) == "`.` changed"
    (folder / "deep/b.sql").write_text("deep/b.sql")
    assert jobs.changed(where, here, made, [db("1")]) == ""
    (folder / "new").touch()
    assert jobs.changed(where, here, made, [db("1")]) == "`.` changed"


def test_a_file_that_is_too_young_is_read(where: paths.Paths, made: record.Record, folder: pathlib.Path) -> None:
    """Two contents within a tick of the clock look alike to stat(2)."""
    here = environment(folder)
    path = folder / "a.sql"
    path.write_text("one")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    jobs.begin(where, here, made, [])
    path.write_text("two")
    os.utime(path, ns=times)
    assert jobs.changed(where, here, made, []) == "`.` changed"


def test_a_dependency_that_was_made_anew(where: paths.Paths, made: record.Record, folder: pathlib.Path) -> None:
    here = environment(folder)
    jobs.begin(where, here, made, [db("1")])
    assert jobs.changed(where, here, made, [db("1"), db("2")]) == ""
    assert jobs.changed(where, here, made, [db("2")]) == "`db` was made anew since it ran"


def test_inputs_say_which_files_count(where: paths.Paths, made: record.Record, folder: pathlib.Path) -> None:
    here = environment(folder, once={"inputs": ["deep/*.sql"]})
    jobs.begin(where, here, made, [])
    (folder / "a.sql").write_text("another")
    assert jobs.changed(where, here, made, []) == ""
    (folder / "deep/c.sql").write_text("another")
    assert jobs.changed(where, here, made, []) == "`its inputs` changed"


def test_too_many_files_are_said(
    where: paths.Paths, made: record.Record, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_MOST_FILES", 1)
    jobs.begin(where, environment(folder), made, [])
    assert "too many to compare" in jobs.changed(where, environment(folder), made, [])


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, {"migrate"}),
        ({"once": False}, set()),
        ({"x-devenv": {"once": False}}, set()),
        ({"once": True}, {"migrate"}),
    ],
)
def test_which_services_are_jobs(folder: pathlib.Path, more: dict[str, Any], found: set[str]) -> None:
    assert set(jobs.find(environment(folder, **more))) == found
