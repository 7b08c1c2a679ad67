"""`plan_up` and `plan_recover`: what is there, what is wanted, and the plan's text."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest

from devenv import errors
from devenv.reconcile import observed, plan, planner
from tests.support import shop
from tests.support.shop import ALL, PAIR, container, service, stopped, there


def up(desired: planner.Desired, seen: observed.Observed, **options: Any) -> str:
    return shop.lines(planner.plan_up(desired, seen, planner.UpOptions(**options)).to_text())


def test_from_nothing() -> None:
    seen = observed.Observed(project_id="shop-1")
    assert planner.plan_up(shop.shop(), seen).to_text() == (
        " 1  volume.create     volume:data        (there is none yet)\n"
        " 2  network.create    network:default    (there is none yet)\n"
        " 3  container.create  service:db:1       (there is none yet) after 1, 2\n"
        " 4  container.create  service:mail:1     (there is none yet) after 2\n"
        " 5  container.create  service:migrate:1  (there is none yet) after 2\n"
        " 6  container.create  service:web:1      (there is none yet) after 2\n"
        " 7  container.create  service:web:2      (there is none yet) after 2\n"
        " 8  container.start   service:db:1       (created) after 3\n"
        " 9  container.start   service:mail:1     (created) after 4\n"
        "10  container.wait    service:db         (`migrate`, `web` need it healthy) after 8\n"
        "11  container.start   service:migrate:1  (created) after 5, 10\n"
        "12  container.wait    service:mail       (`web` needs it healthy) after 9\n"
        "13  container.wait    service:migrate    (`web` needs it completed) after 11\n"
        "14  container.start   service:web:1      (created) after 6, 10, 13 once ended 12\n"
        "15  container.start   service:web:2      (created) after 7, 10, 13 once ended 12\n"
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_same_input_in_another_order_is_the_same_plan(seed: int) -> None:
    mixed = list(ALL)
    random.Random(seed).shuffle(mixed)
    services = list(shop.shop(db=service("db", changed="ports", volumes=("shop_data",))).services.items())
    expected = planner.plan_up(dataclasses.replace(shop.shop(), services=dict(services)), there(*ALL))
    random.Random(seed).shuffle(services)
    found = planner.plan_up(dataclasses.replace(shop.shop(), services=dict(services)), there(*mixed))
    assert found == expected
    assert len(found.operations) == 11


def test_second_up_does_nothing() -> None:
    found = planner.plan_up(shop.pair(), there(*PAIR))
    assert found.is_empty
    assert found.to_text() == "nothing to do\n"


def test_up_to_date_in_every_state_that_lives() -> None:
    for state in ("running", "paused", "restarting"):
        assert up(shop.pair(), there(PAIR[0], dataclasses.replace(PAIR[1], state=state))) == "nothing to do"


def test_a_job_that_ended_well_runs_again_on_up_as_with_compose() -> None:
    assert up(shop.shop(), there(*ALL)) == "1 container.start service:migrate:1 (exited with 0)"


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"changed": "environment"}, "environment changed"),
        ({"changed": "image"}, "image changed"),
        ({"config_digest": "2", "sections": {**shop.SECTIONS, "user": "1", "ports": "2"}}, "ports, user changed"),
        ({"config_digest": "2", "sections": {"image": "sha256:1"}}, "environment, ports changed"),
        ({"config_digest": "2"}, "configuration changed"),
        ({"config_digest": "2", "sections": {}}, "configuration changed"),
        ({"image_id": "sha256:9"}, "image changed"),
    ],
)
def test_a_difference_is_named(changed: dict[str, Any], cause: str) -> None:
    desired = shop.pair(api=service("api", depends_on={"db": {}}, **changed))
    assert up(desired, there(*PAIR)) == shop.table(f"""
        1 container.create service:api:1 ({cause})
        2 container.stop service:api:1 ({cause}) after 1
        3 container.remove service:api:1 ({cause}) after 2
        4 container.start service:api:1 (recreated) after 3
    """)


def test_an_image_that_is_not_known_yet_does_not_count() -> None:
    assert up(shop.pair(api=service("api", image_id="")), there(*PAIR)) == "nothing to do"


def test_what_asked_to_follow_is_stopped_before_and_started_after() -> None:
    desired = shop.shop(db=service("db", changed="environment", volumes=("shop_data",)))
    assert up(desired, there(*ALL)) == shop.table("""
        1 container.create service:db:1 (environment changed)
        2 container.stop service:web:1 (`db` is recreated) after 1
        3 container.stop service:web:2 (`db` is recreated) after 1
        4 container.stop service:db:1 (environment changed) after 1 once ended 2, 3
        5 container.remove service:db:1 (environment changed) after 4
        6 container.start service:db:1 (recreated) after 5
        7 container.wait service:db (`migrate`, `web` need it healthy) after 6
        8 container.start service:migrate:1 (exited with 0) after 7
        9 container.wait service:migrate (`web` needs it completed) after 8
        10 container.start service:web:1 (`db` is recreated) after 2, 7, 9
        11 container.start service:web:2 (`db` is recreated) after 3, 7, 9
    """)


def test_followers_follow_followers_even_those_not_named() -> None:
    follow = {"condition": "service_started", "restart": True}
    desired = shop.pair(
        db=service("db", changed="ports"),
        api=service("api", depends_on={"db": follow}),
        web=service("web", depends_on={"api": follow}),
    )
    seen = there(*PAIR, container("web", depends_on={}))
    assert up(desired, seen, services=("db",)) == shop.table("""
        1 container.create service:db:1 (ports changed)
        2 container.stop service:web:1 (`api` is restarted) after 1
        3 container.stop service:api:1 (`db` is recreated) after 1 once ended 2
        4 container.stop service:db:1 (ports changed) after 1 once ended 3
        5 container.remove service:db:1 (ports changed) after 4
        6 container.start service:db:1 (recreated) after 5
        7 container.start service:api:1 (`db` is recreated) after 3, 6
        8 container.start service:web:1 (`api` is restarted) after 2, 7
    """)


def test_recreate_never_and_force() -> None:
    desired = shop.pair(api=service("api", changed="ports", depends_on={"db": {}}))
    assert up(desired, there(*PAIR), recreate="never") == "nothing to do"
    forced = up(shop.pair(), there(*PAIR), recreate="force", services=("api",))
    assert forced == shop.table("""
        1 container.create service:api:1 (asked for)
        2 container.stop service:api:1 (asked for) after 1
        3 container.remove service:api:1 (asked for) after 2
        4 container.start service:api:1 (recreated) after 3
    """)
    assert "service:db:1 (asked for with its dependents)" in up(
        shop.pair(), there(*PAIR), services=("api",), always_recreate_deps=True
    )


def test_the_new_container_takes_over_anonymous_volumes_unless_they_are_renewed() -> None:
    desired = shop.pair(api=service("api", changed="ports"))
    for renew, replaces in ((False, "api1"), (True, "")):
        create, _, remove, _ = planner.plan_up(
            desired, there(*PAIR), planner.UpOptions(renew_anonymous_volumes=renew, timeout=3.0)
        ).operations
        assert (create.replaces, remove.volumes) == (replaces, renew)


def test_a_stopped_one_that_differs_needs_no_stop() -> None:
    desired = shop.pair(api=service("api", changed="ports", depends_on={"db": {}}))
    assert up(desired, there(PAIR[0], stopped("api", exit_code=1))) == shop.table("""
        1 container.create service:api:1 (ports changed)
        2 container.remove service:api:1 (ports changed) after 1
        3 container.start service:api:1 (recreated) after 2
    """)


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (stopped("api", exit_code=3), "exited with 3"),
        (stopped("api", exit_code=None), "ended, nobody saw how"),
        (stopped("api", stopped_by_user=True), "stopped"),
        (container("api", state="created", ever_started=False), "created and never started"),
    ],
)
def test_what_does_not_run_is_started(seen: observed.Container, cause: str) -> None:
    assert up(shop.pair(), there(PAIR[0], seen)) == f"1 container.start service:api:1 ({cause})"


def test_a_condition_that_does_not_hold_yet_is_waited_for() -> None:
    seen = there(dataclasses.replace(ALL[0], health="starting"), container("migrate", state="created"))
    assert up(shop.shop(), seen, services=("migrate",)) == shop.table("""
        1 container.wait service:db (`migrate` needs it healthy)
        2 container.start service:migrate:1 (not running) after 1
    """)


def test_scale_up_takes_the_lowest_free_numbers() -> None:
    seen = there(*PAIR[:1], container("api", 2, depends_on={"db": {}}))
    assert up(shop.pair(), seen, scale={"api": 3}) == shop.table("""
        1 container.create service:api:1 (3 wanted, 1 there)
        2 container.create service:api:3 (3 wanted, 1 there)
        3 container.start service:api:1 (created) after 1
        4 container.start service:api:3 (created) after 2
    """)


def test_scale_down_takes_the_highest_numbers() -> None:
    seen = there(PAIR[0], container("api", 1), container("api", 2), stopped("api", 3))
    assert up(shop.pair(), seen) == shop.table("""
        1 container.stop service:api:2 (1 wanted, 3 there)
        2 container.remove service:api:2 (1 wanted, 3 there) after 1
        3 container.remove service:api:3 (1 wanted, 3 there)
    """)


def test_scale_down_prefers_what_differs() -> None:
    seen = there(PAIR[0], container("api", 1, config_digest="0"), container("api", 2))
    assert up(shop.pair(), seen) == shop.table("""
        1 container.stop service:api:1 (1 wanted, 2 there)
        2 container.remove service:api:1 (1 wanted, 2 there) after 1
    """)


def test_scale_to_zero_imposes_no_condition() -> None:
    text = up(shop.shop(), there(), services=("migrate",), scale={"db": 0})
    assert text == shop.table("""
        1 container.create service:migrate:1 (there is none yet)
        2 container.start service:migrate:1 (created) after 1
    """)


def test_a_container_name_can_be_had_once() -> None:
    with pytest.raises(errors.UsageError, match="all would be called `the-db`"):
        planner.plan_up(
            shop.pair(db=service("db", container_name="the-db")), there(), planner.UpOptions(scale={"db": 2})
        )


def test_a_subset_brings_its_dependencies_and_their_resources_only() -> None:
    desired = dataclasses.replace(shop.shop(), services={**shop.shop().services, "lone": service("lone", networks=())})
    seen = there(networks=(), volumes=())
    assert up(desired, seen, services=("lone",)) == shop.table("""
        1 container.create service:lone:1 (there is none yet)
        2 container.start service:lone:1 (created) after 1
    """)
    assert up(desired, seen, services=("migrate",)) == shop.table("""
        1 volume.create volume:data (there is none yet)
        2 network.create network:default (there is none yet)
        3 container.create service:db:1 (there is none yet) after 1, 2
        4 container.create service:migrate:1 (there is none yet) after 2
        5 container.start service:db:1 (created) after 3
        6 container.wait service:db (`migrate` needs it healthy) after 5
        7 container.start service:migrate:1 (created) after 4, 6
    """)


def test_no_deps_leaves_dependencies_and_conditions_alone() -> None:
    assert up(shop.shop(), there(), services=("migrate",), no_deps=True) == shop.table("""
        1 container.create service:migrate:1 (there is none yet)
        2 container.start service:migrate:1 (created) after 1
    """)


def test_no_start() -> None:
    desired = shop.pair(db=service("db", changed="ports"))
    assert up(desired, there(PAIR[0]), no_start=True) == shop.table("""
        1 container.create service:db:1 (ports changed)
        2 container.create service:api:1 (there is none yet)
        3 container.stop service:db:1 (ports changed) after 1
        4 container.remove service:db:1 (ports changed) after 3
    """)


def test_an_optional_dependency_that_is_not_there() -> None:
    desired = shop.pair(api=service("api", depends_on={"debug": {"required": False}}))
    assert up(desired, there(), services=("api",)) == shop.table("""
        1 container.create service:api:1 (there is none yet)
        2 container.start service:api:1 (created) after 1
    """)


def test_the_wait_for_an_optional_dependency_fails_nobody() -> None:
    waits = {each.service: each for each in planner.plan_up(shop.shop(), there()).operations if each.waits}
    assert {name: each.required for name, each in waits.items()} == {"db": True, "mail": False, "migrate": True}


def test_orphans() -> None:
    orphan = container("old")
    seen = there(*PAIR, orphan, container("api", 9, id="run", oneoff=True))
    assert up(shop.pair(), seen) == shop.table("""
        nothing to do
        note: containers of services that are not in the spec: `shop-old-1`; --remove-orphans removes them
    """)
    assert up(shop.pair(), seen, remove_orphans=True) == shop.table("""
        1 container.stop service:old:1 (its service is not in the spec)
        2 container.remove service:old:1 (its service is not in the spec) after 1
    """)
    disabled = dataclasses.replace(shop.pair(), disabled=frozenset({"old"}))
    assert up(disabled, seen, remove_orphans=True) == "nothing to do"


def test_a_network_that_differs_is_made_again_under_its_containers() -> None:
    desired = dataclasses.replace(
        shop.pair(), networks=(planner.DesiredNetwork(name="shop_default", key="default", digest="2"),)
    )
    assert up(desired, there(*PAIR, container("old"))) == shop.table("""
        1 container.stop service:api:1 (network `default` changed)
        2 container.stop service:db:1 (network `default` changed)
        3 container.stop service:old:1 (network `default` changed)
        4 network.recreate network:default (its definition changed) after 1, 2, 3
        5 container.start service:db:1 (network `default` changed) after 2, 4
        6 container.start service:api:1 (network `default` changed) after 1, 4, 5
        note: containers of services that are not in the spec: `shop-old-1`; --remove-orphans removes them
    """)
    guest = container("api", 1, id="run", name="shop-api-run-1", oneoff=True)
    assert up(desired, there(*PAIR, guest)) == shop.table("""
        nothing to do
        note: network `default` changed but stays as it is while `shop-api-run-1` uses it
    """)


def test_a_volume_that_differs_keeps_its_data() -> None:
    volume = dataclasses.replace(shop.VOLUME, digest="2")
    text = up(shop.shop(), there(ALL[0], volumes=(volume,)), services=("db",))
    assert text.startswith("nothing to do\nnote: volume `data` was made from another definition and is kept")


def test_external_resources_are_somebody_elses() -> None:
    desired = dataclasses.replace(
        shop.pair(), networks=(planner.DesiredNetwork(name="shop_default", key="default", external=True),)
    )
    assert "network.create" not in up(desired, there(networks=()))


def test_two_containers_of_one_number_after_a_kill() -> None:
    """A supervisor was killed between making the new container and removing the old one."""
    old = container("api", config_digest="0", created=1.0, id="old")
    new = container("api", state="created", ever_started=False, created=2.0, id="new")
    expected = shop.table("""
        1 container.stop service:api:1 (a newer one takes its place)
        2 container.remove service:api:1 (a newer one takes its place) after 1
        3 container.start service:api:1 (created and never started) after 2
    """)
    assert up(shop.pair(), there(PAIR[0], old, new)) == expected
    assert shop.lines(planner.plan_recover(shop.pair(), there(PAIR[0], new, old)).to_text()) == expected


def test_unknown_service() -> None:
    with pytest.raises(errors.UsageError, match="no such service: `nope`"):
        up(shop.pair(), there(), services=("nope",))


def test_recover_continues_only_what_was_not_finished() -> None:
    seen = there(
        container("db", config_digest="0"),  # differs: nobody asked a second time
        stopped("migrate"),  # ended well
        container("web", 1, state="created", ever_started=False),
        stopped("mail", stopped_by_user=True),
    )
    assert shop.lines(planner.plan_recover(shop.shop(), seen).to_text()) == shop.table("""
        1 container.create service:web:2 (2 wanted, 1 there)
        2 container.wait service:mail (`web` needs it healthy)
        3 container.start service:web:1 (created and never started) once ended 2
        4 container.start service:web:2 (created) after 1 once ended 2
    """)
    assert planner.plan_recover(shop.shop(), there(*ALL)).is_empty
    assert planner.plan_recover(shop.shop(), there(*ALL[:2]), services=["db"]).is_empty


def test_fifty_services_and_no_cycle_among_operations() -> None:
    names = [f"s{number:02}" for number in range(50)]
    services = {
        name: service(name, changed="ports", depends_on={other: {"restart": True} for other in names[:place]})
        for place, name in enumerate(names)
    }
    desired = dataclasses.replace(shop.shop(), services=services)
    seen = there(*(container(name) for name in names))
    found = planner.plan_up(desired, seen)
    assert found.counts == {
        "container.create": 50,
        "container.remove": 50,
        "container.start": 50,
        "container.stop": 50,
    }
    places = {each.id: place for place, each in enumerate(found.operations)}
    for each in found.operations:
        assert all(places[other] < places[each.id] for other in (*each.after, *each.after_ended))


def test_json_is_plain_and_says_only_what_matters() -> None:
    found = planner.plan_up(shop.pair(), there(PAIR[0], stopped("api", exit_code=1)))
    assert json.loads(json.dumps(found.to_json())) == {
        "operations": [
            {
                "id": "container.start service:api:1",
                "type": "container.start",
                "resource": "service:api:1",
                "cause": "exited with 1",
                "after": [],
                "name": "shop-api-1",
                "service": "api",
                "number": 1,
                "container_id": "api1",
            }
        ],
        "notes": [],
        "done": [],
    }


def test_operations_that_wait_for_each_other_are_a_bug() -> None:
    builder = plan.Builder()
    builder.add(plan.Type.CONTAINER_STOP, "a", "", after=["container.stop b"])
    builder.add(plan.Type.CONTAINER_STOP, "b", "", after=["container.stop a"])
    with pytest.raises(RuntimeError, match="wait for each other"):
        builder.plan()


def test_limits_alone_make_no_new_container() -> None:
    """It runs on, with its dependents; one that was stopped starts with the new ones."""
    desired = shop.pair(db=service("db", changed="mem_limit"))
    assert up(desired, there(*PAIR)) == "1 container.update service:db:1 (mem_limit changed)"
    assert up(desired, there(stopped("db"), PAIR[1])) == shop.table("""
        1 container.update service:db:1 (mem_limit changed)
        2 container.start service:db:1 (exited with 0) after 1
    """)
    assert "container.create service:db:1" in up(desired, there(*PAIR), recreate="force")
    assert up(desired, there(*PAIR), recreate="never") == "nothing to do"
    both = {"config_digest": "2", "sections": {**shop.SECTIONS, "cpus": "1", "user": "1"}}
    found = up(shop.pair(db=service("db", **both)), there(*PAIR))
    assert "container.create service:db:1 (cpus, user changed)" in found
