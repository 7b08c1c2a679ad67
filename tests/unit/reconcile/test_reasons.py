"""Why something waits, in words and as data."""

from __future__ import annotations

import os

import pytest

from devenv import events
from devenv.reconcile import holds, reasons
from devenv.util import identity, paths

REFUSED = reasons.Health(container="shop-db-1", health="starting", failed=3, retries=5, last="connection refused")
BACK_OFF = reasons.BackOff(container="shop-db-1", at=104.0, crash=3, exit_code=1)


@pytest.mark.parametrize(
    ("reason", "phrase"),
    [
        (
            reasons.dependency("db", "service_healthy", REFUSED),
            "waits for db: healthy (3 of 5 probes failed, last: connection refused)",
        ),
        (
            reasons.dependency(
                "migrate", "service_completed_successfully", reasons.Status(container="x", status="running")
            ),
            "waits for migrate: completed",
        ),
        (
            reasons.dependency("db", "service_healthy", BACK_OFF),
            "waits for db: healthy, restarting in 4 s (crash 3: exit 1)",
        ),
        (
            reasons.dependency("db", "service_started", reasons.Missing()),
            "waits for db: started, it has no container yet",
        ),
        (reasons.Image(image="postgres:16", percent=45), "waits for its image: pulling 45 %"),
        (reasons.Image(image="postgres:16"), "waits for its image"),
    ],
)
def test_phrases_and_json(reason: reasons.Reason, phrase: str) -> None:
    assert reason.phrase(100.0) == phrase
    assert reasons.from_json(reason.to_json()) == reason
    assert reasons.shown(reason, 100.0) == {**reason.to_json(), "text": phrase}


def test_several_are_one_line() -> None:
    held = [reasons.dependency("db", "service_healthy", REFUSED), reasons.dependency("job", "service_started", None)]
    told = "for db: healthy (3 of 5 probes failed, last: connection refused); for job: started"
    assert reasons.details(held, 0.0) == told


@pytest.fixture
def held(tmp_path: object) -> tuple[paths.Paths, identity.Project, holds.Holds]:
    where = paths.Paths(data=f"{tmp_path}/data", run=f"{tmp_path}/run")
    project = identity.project("shop", str(tmp_path))
    os.makedirs(where.project_run(project.id))
    return where, project, holds.Holds(where, project)


def test_what_is_held_is_read_by_others_while_there_is_a_supervisor(
    held: tuple[paths.Paths, identity.Project, holds.Holds],
) -> None:
    where, project, mine = held
    assert mine.hold("web", "one", REFUSED)
    assert not mine.hold("web", "one", REFUSED)
    assert holds.read(where, project.id) == {}
    open(f"{where.project_run(project.id)}/supervisor.sock", "w").close()
    assert holds.read(where, project.id) == {"web": [REFUSED]}
    mine.release("web", "one")
    assert holds.read(where, project.id) == {}


def test_an_image_on_its_way_holds_all_who_want_it(
    held: tuple[paths.Paths, identity.Project, holds.Holds],
) -> None:
    _, _, mine = held
    told: list[events.Event] = []
    pulls = holds.Pulls(mine, [("db", "postgres:16"), ("other", "postgres:16"), ("web", "nginx")], told.append)

    def event(status: events.Status, current: int = 0) -> events.Event:
        return events.Event(resource="Image postgres:16", status=status, text="", current=current, total=200)

    pulls(event(events.Status.WORKING, 90))
    assert mine.of("db") == mine.of("other") == [reasons.Image(image="postgres:16", percent=45)]
    assert mine.of("web") == []
    pulls(event(events.Status.DONE))
    assert mine.of("db") == []
    assert len(told) == 2
