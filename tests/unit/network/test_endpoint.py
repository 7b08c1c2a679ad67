"""How interfaces are ordered and named, and which network has the default route."""

from __future__ import annotations

from devenv.network import bridge, endpoint, types


def wish(network: str, **more: object) -> types.EndpointSpec:
    return types.EndpointSpec(network=network, **more)  # type: ignore[arg-type]


def test_by_priority_then_by_name() -> None:
    ordered = endpoint.order([wish("b"), wish("c", priority=5), wish("a")])
    assert [spec.network for spec in ordered] == ["c", "a", "b"]
    assert endpoint.interfaces(ordered) == {"c": "eth0", "a": "eth1", "b": "eth2"}


def test_a_chosen_name_is_not_given_to_another() -> None:
    assert endpoint.interfaces([wish("a"), wish("b", interface_name="eth0")]) == {"a": "eth1", "b": "eth0"}


def test_the_default_route_is_the_highest_gw_priority_that_has_a_gateway() -> None:
    specs = [wish("a"), wish("b", gw_priority=1), wish("c", gw_priority=9)]
    assert endpoint.default_route(specs, {"a", "b", "c"}) == "c"
    assert endpoint.default_route(specs, {"a", "b"}) == "b"
    assert endpoint.default_route([wish("b"), wish("a")], {"a", "b"}) == "a"
    assert endpoint.default_route(specs, set()) == ""


def test_names_fit_the_kernel() -> None:
    assert len(bridge.name_for("a-very-long-project-name-00000000", "x" * 200)) <= 15
    assert len(endpoint.veth_name("f" * 64, "x" * 200, 4194304)) <= 15
