"""Plans that are made from the containers alone."""

from __future__ import annotations

import dataclasses

import pytest

from devenv import errors
from devenv.reconcile import plan, planner
from tests.support import shop
from tests.support.shop import ALL, PAIR, container, stopped, there


def text(found: plan.Plan) -> str:
    return shop.lines(found.to_text())


RUN = container("web", 7, id="run", name="shop-web-run-1", oneoff=True)


def test_down() -> None:
    assert text(planner.plan_down(there(*ALL, RUN))) == shop.table("""
        1 container.stop service:web:1 (asked for)
        2 container.stop service:web:2 (asked for)
        3 container.stop run:shop-web-run-1 (asked for)
        4 container.stop service:mail:1 (asked for) once ended 1, 2, 3
        5 container.stop service:db:1 (asked for) once ended 1, 2, 3
        6 container.remove service:web:1 (asked for) after 1
        7 container.remove service:web:2 (asked for) after 2
        8 container.remove run:shop-web-run-1 (asked for) after 3
        9 container.remove service:migrate:1 (asked for)
        10 container.remove service:mail:1 (asked for) after 4
        11 container.remove service:db:1 (asked for) after 5
        12 network.remove network:default (asked for) after 6, 7, 8, 9, 10, 11
    """)


def test_down_goes_past_what_has_stopped_already() -> None:
    """db waits for web although migrate, which is between them, ended long ago."""
    web = container("web", depends_on={"migrate": {}})
    assert text(planner.plan_down(there(ALL[0], ALL[1], web))).splitlines()[:2] == [
        "1 container.stop service:web:1 (asked for)",
        "2 container.stop service:db:1 (asked for) once ended 1",
    ]


def test_down_with_volumes() -> None:
    found = planner.plan_down(there(*ALL[:2]), volumes=True, timeout=1.0)
    assert text(found) == shop.table("""
        1 container.stop service:db:1 (asked for)
        2 container.remove service:migrate:1 (asked for)
        3 container.remove service:db:1 (asked for) after 1
        4 network.remove network:default (asked for) after 2, 3
        5 volume.remove volume:data (asked for with its data) after 3
    """)
    assert found.operations[0].timeout == 1.0
    assert found.operations[1].volumes


def test_down_of_nothing_and_of_what_has_no_containers() -> None:
    assert planner.plan_down(there(networks=(), volumes=())).is_empty
    assert text(planner.plan_down(there())) == "1 network.remove network:default (asked for)"


def test_down_leaves_orphans_and_what_they_use() -> None:
    seen = there(PAIR[0], container("old", volumes=("shop_data",)))
    assert text(planner.plan_down(seen, known={"db"}, volumes=True)) == shop.table("""
        1 container.stop service:db:1 (asked for)
        2 container.remove service:db:1 (asked for) after 1
        note: containers of services that are not in the spec stay: `shop-old-1`; --remove-orphans removes them
        note: network `default` stays: `shop-old-1` uses it
        note: volume `data` stays: `shop-old-1` uses it
    """)
    assert planner.plan_down(seen, known={"db"}, remove_orphans=True).counts["container.remove"] == 2
    assert planner.plan_down(seen).counts["container.remove"] == 2


def test_down_of_a_service() -> None:
    assert text(planner.plan_down(there(*PAIR), services=["api"])) == shop.table("""
        1 container.stop service:api:1 (asked for)
        2 container.remove service:api:1 (asked for) after 1
        note: network `default` stays: `shop-db-1` uses it
    """)
    assert text(planner.plan_down(there(*PAIR), services=["unknown"])) == "nothing to do"


def test_down_survives_a_cycle_of_old_and_new_containers() -> None:
    one = container("a", depends_on={"b": {}})
    two = container("b", depends_on={"a": {}})
    found = planner.plan_down(there(one, two))
    assert found.counts == {"container.remove": 2, "container.stop": 2, "network.remove": 1}


def test_stop() -> None:
    restarting = dataclasses.replace(PAIR[1], state="restarting")
    found = planner.plan_stop(there(PAIR[0], restarting, RUN, *ALL[1:2]), timeout=2.0)
    assert text(found) == shop.table("""
        1 container.stop service:api:1 (asked for)
        2 container.stop service:db:1 (asked for) once ended 1
    """)
    assert [(each.timeout, each.resumes) for each in found.operations] == [(2.0, False)] * 2
    assert text(planner.plan_stop(there(*PAIR), services=["db"])) == "1 container.stop service:db:1 (asked for)"


def test_start_waits_for_conditions_among_those_it_starts() -> None:
    seen = there(*(dataclasses.replace(each, state="stopped", exit_code=0, health="") for each in ALL))
    assert text(planner.plan_start(seen)) == shop.table("""
        1 container.start service:db:1 (asked for)
        2 container.start service:mail:1 (asked for)
        3 container.wait service:db (`migrate`, `web` need it healthy) after 1
        4 container.start service:migrate:1 (asked for) after 3
        5 container.wait service:mail (`web` needs it healthy) after 2
        6 container.wait service:migrate (`web` needs it completed) after 4
        7 container.start service:web:1 (asked for) after 3, 6 once ended 5
        8 container.start service:web:2 (asked for) after 3, 6 once ended 5
    """)
    assert text(planner.plan_start(seen, services=["migrate"])) == "1 container.start service:migrate:1 (asked for)"
    assert planner.plan_start(there(*PAIR)).is_empty


def test_restart_takes_along_what_follows() -> None:
    assert text(planner.plan_restart(there(*ALL), services=["db"])) == shop.table("""
        1 container.stop service:web:1 (`db` is restarted)
        2 container.stop service:web:2 (`db` is restarted)
        3 container.stop service:db:1 (asked for) once ended 1, 2
        4 container.start service:db:1 (asked for) after 3
        5 container.wait service:db (`web` needs it healthy) after 4
        6 container.start service:web:1 (`db` is restarted) after 1, 5
        7 container.start service:web:2 (`db` is restarted) after 2, 5
    """)
    found = planner.plan_restart(there(*ALL), services=["db"], no_deps=True, timeout=4.0)
    assert text(found) == shop.table("""
        1 container.stop service:db:1 (asked for)
        2 container.start service:db:1 (asked for) after 1
    """)
    assert (found.operations[0].resumes, found.operations[0].timeout) == (True, 4.0)


def test_restart_starts_what_was_stopped() -> None:
    seen = there(PAIR[0], stopped("api", exit_code=1))
    assert text(planner.plan_restart(seen, services=["api"])) == "1 container.start service:api:1 (asked for)"


def test_kill() -> None:
    found = planner.plan_kill(there(*ALL, RUN), services=["web", "db"], signal="SIGHUP")
    assert text(found) == shop.table("""
        1 container.kill service:db:1 (asked for)
        2 container.kill service:web:1 (asked for)
        3 container.kill service:web:2 (asked for)
    """)
    assert {each.signal for each in found.operations} == {"SIGHUP"}


def test_remove() -> None:
    seen = there(*PAIR, stopped("migrate"))
    assert text(planner.plan_remove(seen)) == "1 container.remove service:migrate:1 (asked for)"
    assert text(planner.plan_remove(seen, services=["api", "migrate"], stop=True, volumes=True)) == shop.table("""
        1 container.stop service:api:1 (asked for)
        2 container.remove service:migrate:1 (asked for)
        3 container.remove service:api:1 (asked for) after 1
    """)


def test_a_service_without_a_container() -> None:
    for make, words in (
        (planner.plan_start, "has no container to start"),
        (planner.plan_restart, "has no container to restart"),
        (planner.plan_kill, "has no running container"),
    ):
        with pytest.raises(errors.ContainerError, match=f"service `cache` {words}"):
            make(there(*PAIR), services=["cache"])
