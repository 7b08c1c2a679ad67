from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from devenv import errors
from devenv.graph import cycle, dependency, edges, render, traversal

SHOP: dict[str, dict[str, Any]] = {
    "db": {},
    "migrate": {"depends_on": {"db": {"condition": "service_healthy", "required": True}}},
    "api": {
        "depends_on": {
            "db": {"condition": "service_healthy", "required": True, "restart": True},
            "migrate": {"condition": "service_completed_successfully", "required": True},
            "mail": {"condition": "service_started", "required": False},
        }
    },
    "mail": {},
    "web": {"depends_on": {"api": {"condition": "service_started", "required": True}}, "links": ["api:backend"]},
    "sidecar": {"network_mode": "service:api", "volumes_from": ["db:ro", "container:other"]},
    "built": {"build": {"context": ".", "additional_contexts": {"base": "service:web", "other": "./x"}}},
}


def shuffled(services: dict[str, dict[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    names = list(services)
    random.Random(seed).shuffle(names)
    return {name: services[name] for name in names}


def chain(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {"depends_on": [other]} for name, other in itertools.pairwise(names)} | {names[-1]: {}}


def test_edges() -> None:
    assert edges.of(SHOP["sidecar"]) == (
        edges.Edge(needs="api", kinds=("network_mode",), restart=True),
        edges.Edge(needs="db", kinds=("volumes_from",)),
    )
    assert edges.of(SHOP["web"]) == (edges.Edge(needs="api", kinds=("depends_on", "links")),)
    assert edges.of({"depends_on": ["a"], "ipc": "service:b", "pid": "host"}) == (
        edges.Edge(needs="a", kinds=("depends_on",)),
        edges.Edge(needs="b", kinds=("ipc",), restart=True),
    )


def test_a_build_needs_nothing_to_run() -> None:
    assert [edge.needs for edge in edges.of(SHOP["built"])] == ["web"]
    assert edges.depends_on(SHOP["built"]) == {}
    assert edges.depends_on(SHOP["sidecar"])["api"] == {
        "condition": "service_started",
        "required": True,
        "restart": True,
    }


@pytest.mark.parametrize("seed", range(5))
def test_order_is_the_same_whatever_the_order_of_the_file(seed: int) -> None:
    graph = dependency.build(shuffled(SHOP, seed))
    expected = ["db", "mail", "migrate", "api", "sidecar", "web", "built"]
    assert dependency.order(graph) == expected
    needs = dependency.needs(graph)
    assert traversal.order(needs) == ["db", "mail", "migrate", "api", "web", "built", "sidecar"]
    assert traversal.reverse_order(needs) == traversal.order(needs)[::-1]
    assert render.text(graph) == render.text(dependency.build(SHOP))


def test_closure_dependents_levels() -> None:
    needs = dependency.needs(dependency.build(SHOP))
    assert traversal.closure(needs, ["migrate"]) == {"migrate", "db"}
    assert traversal.closure(needs, ["web", "unknown"]) == {"web", "api", "db", "migrate", "mail"}
    assert traversal.dependents(needs, "api") == {"web", "sidecar", "built"}
    assert traversal.levels(needs) == [["db", "mail"], ["migrate"], ["api"], ["sidecar", "web"], ["built"]]
    assert traversal.levels({}) == []


def test_a_subset_brings_what_it_needs() -> None:
    assert sorted(dependency.build(SHOP, ["migrate"])) == ["db", "migrate"]


def test_an_optional_dependency_may_be_absent() -> None:
    graph = dependency.build({"a": {"depends_on": {"gone": {"required": False}}}})
    assert sorted(graph) == ["a"]


def test_walks_survive_cycles_and_long_chains() -> None:
    assert traversal.order({"a": ["b"], "b": ["a"], "c": []}) == ["b", "a", "c"]
    names = [f"s{number:05}" for number in range(3000)]
    needs = {name: [other] for name, other in itertools.pairwise(names)} | {names[-1]: []}
    assert traversal.order(needs) == names[::-1]
    assert render.text(dependency.build(chain(*names))).count("\n") == 3000


def test_no_cycle() -> None:
    graph = dependency.build(SHOP)
    assert cycle.find(graph) is None
    cycle.check(graph)


@pytest.mark.parametrize("seed", range(5))
def test_a_cycle_is_named_in_full(seed: int) -> None:
    services: dict[str, dict[str, Any]] = {
        "web": {"depends_on": ["worker"]},
        "worker": {"links": ["db:database"]},
        "db": {"network_mode": "service:api"},
        "api": {"depends_on": {"worker": {}}},
        "z": {"depends_on": ["z"]},
    }
    graph = dependency.build(shuffled(services, seed))
    assert cycle.find(graph) == ["api", "worker", "db", "api"]
    with pytest.raises(errors.SpecError) as caught:
        cycle.check(graph)
    assert caught.value.message == "services depend on each other in a cycle: api -> worker -> db -> api"
    assert caught.value.note == (
        "`api` needs `worker` by `depends_on`\n`worker` needs `db` by `links`\n`db` needs `api` by `network_mode`"
    )


def test_a_service_that_needs_itself() -> None:
    assert cycle.find(dependency.build({"a": {"depends_on": ["a"]}})) == ["a", "a"]


def test_text() -> None:
    assert render.text(dependency.build(SHOP)) == (
        "built\n"
        "└─ web (build)\n"
        "   └─ api (links)\n"
        "      ├─ db (healthy, restart)\n"
        "      ├─ mail (optional)\n"
        "      └─ migrate (completed)\n"
        "         └─ db (healthy)\n"
        "sidecar\n"
        "├─ api (network_mode, restart) …\n"
        "└─ db (volumes_from)\n"
    )


def test_text_of_a_cycle_ends() -> None:
    assert render.text(dependency.build({"a": {"depends_on": ["b"]}, "b": {"depends_on": ["a"]}})) == (
        "a\n└─ b\n   └─ a …\n"
    )


def test_mermaid_and_dot() -> None:
    graph = dependency.build(SHOP, ["api"])
    assert render.mermaid(graph) == (
        "flowchart TD\n"
        '    s0["api"]\n    s1["db"]\n    s2["mail"]\n    s3["migrate"]\n'
        "    s0 -->|healthy, restart| s1\n"
        "    s0 -.->|optional| s2\n"
        "    s0 -->|completed| s3\n"
        "    s3 -->|healthy| s1\n"
    )
    assert render.dot(graph) == (
        "digraph devenv {\n"
        "    node [shape=box];\n"
        '    "api";\n    "db";\n    "mail";\n    "migrate";\n'
        '    "api" -> "db" [label="healthy, restart"];\n'
        '    "api" -> "mail" [label="optional", style=dashed];\n'
        '    "api" -> "migrate" [label="completed"];\n'
        '    "migrate" -> "db" [label="healthy"];\n'
        "}\n"
    )
