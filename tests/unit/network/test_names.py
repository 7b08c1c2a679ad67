"""Who is called what, and who may know."""

from __future__ import annotations

import json

import pytest

from devenv.network import names


def card(number: int, service: str, places: dict[str, str], **more: object) -> names.Card:
    name = f"shop-{service}-{number}"
    return names.Card(
        id=name,
        name=name,
        service=service,
        pid=number,
        start_time=1,
        places={network: names.Place((address,), (name, service)) for network, address in places.items()},
        **more,  # type: ignore[arg-type]
    )


WEB = card(1, "web", {"shop_front": "10.0.0.2"})
API = card(2, "api", {"shop_front": "10.0.0.3", "back": "10.1.0.3"}, offers=(names.Offer(80, "tcp", ("http",)),))
API2 = card(3, "api", {"shop_front": "10.0.0.4", "back": "10.1.0.4"}, offers=(names.Offer(80, "tcp", ("http",)),))
DB = card(4, "db", {"back": "10.1.0.5"})
ALL = (WEB, API, API2, DB)


def book(*cards: names.Card, dead: tuple[names.Card, ...] = ()) -> names.Book:
    return names.Book(names.Picture(cards or ALL, ("web", "cache")), lambda one: one not in dead)


def resolve(asker: names.Card, name: str, **more: tuple[names.Card, ...]) -> list[str]:
    return names.addresses(book(**more).find(asker, name))


def test_only_who_shares_a_network_is_known() -> None:
    assert resolve(WEB, "db") == []
    assert resolve(API, "db") == ["10.1.0.5"]
    assert resolve(DB, "web") == []


def test_a_service_is_all_of_its_replicas_and_a_container_name_is_one() -> None:
    assert sorted(resolve(WEB, "api")) == ["10.0.0.3", "10.0.0.4"]
    assert resolve(WEB, "shop-api-3") == ["10.0.0.4"]
    # By all networks that both are in.
    assert sorted(resolve(API, "shop-api-3")) == ["10.0.0.4", "10.1.0.4"]


def test_a_name_in_one_network() -> None:
    assert resolve(API, "shop-api-3.back") == ["10.1.0.4"]
    assert resolve(API, "api.shop_front") == ["10.0.0.3", "10.0.0.4"]
    assert resolve(WEB, "db.back") == []


def test_who_has_ended_is_not_found() -> None:
    assert resolve(WEB, "api", dead=(API2,)) == ["10.0.0.3"]
    assert book(dead=(DB,)).named(API, "10.1.0.5") == ""


def test_links_are_for_one_containers_eyes_only() -> None:
    linked = card(1, "web", {"shop_front": "10.0.0.2"}, links={"backend": "api"})
    assert resolve(linked, "backend") == ["10.0.0.3", "10.0.0.4"]
    assert resolve(WEB, "backend") == []


def test_an_address_is_called_by_container_and_network() -> None:
    assert book().named(API, "10.1.0.5") == "shop-db-4.back"
    assert book().named(WEB, "10.1.0.5") == ""


def test_names_of_the_project_are_known_running_or_not() -> None:
    assert book().knows("cache")
    assert not book().knows("example.com")


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("5.0.1.10.in-addr.arpa", "10.1.0.5"),
        ("5.1.10.in-addr.arpa", ""),
        ("x.0.1.10.in-addr.arpa", ""),
        ("1." + "0." * 30 + "f.ip6.arpa", "f000::1"),
        ("1.0.f.ip6.arpa", ""),
        ("db", ""),
    ],
)
def test_addresses_in_reverse(name: str, address: str) -> None:
    assert names.reversed_address(name) == address


def test_services_by_number_and_by_name() -> None:
    found = book().find(WEB, "api")
    assert [port for _, _, port in names.services(found, "http", "tcp")] == [80, 80]
    assert [one.name for _, one, _ in names.services(found, "80", "tcp")] == ["shop-api-2", "shop-api-3"]
    assert names.services(found, "80", "udp") == []


def test_a_picture_is_the_same_after_a_way_through_json() -> None:
    one = card(1, "web", {"n": "10.0.0.2"}, hosts={"far": ("192.0.2.1",)}, links={"a": "b"}, servers=("9.9.9.9",))
    picture = names.Picture((one, API), ("web",))
    assert names.Picture.from_json(json.loads(json.dumps(picture.to_json()))) == picture
