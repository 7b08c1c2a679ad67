from __future__ import annotations

import pytest

from devenv.proxy import answers, pages, routes


def service(name: str, host: str = "", port: int = 80) -> routes.Service:
    return routes.Service(name, host or routes.label(name), port)


def project(name: str, *services: routes.Service, mark: str = "1111aaaa", since: float = 1.0) -> routes.Project:
    return routes.Project(f"{name}-{mark}", name, f"/home/me/{name}", since, services)


SHOP = project("shop", service("web"), service("api", "v1.api"), service("my_app"))
KNOWN = routes.Routes([SHOP, project("my_blog", service("web"))])


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("web.shop.localhost", ("shop", "web")),
        ("a.b.web.shop.localhost", ("shop", "web")),
        ("v1.api.shop.localhost", ("shop", "api")),
        ("x.v1.api.shop.localhost", ("shop", "api")),
        ("api.shop.localhost", ("shop", None)),
        ("my-app.shop.localhost", ("shop", "my_app")),
        ("web.my-blog.localhost", ("my_blog", "web")),
        ("web.shop-1111aaaa.localhost", ("shop", "web")),
        ("shop.localhost", ("shop", None)),
        ("shop.web.localhost", (None, None)),
        ("web.shop", (None, None)),
        ("localhost", (None, None)),
        ("web.shop.localhost.evil.test", (None, None)),
    ],
)
def test_hosts(host: str, found: tuple[str | None, str | None]) -> None:
    that = KNOWN.find(host)
    assert (that.project and that.project.name, that.service and that.service.name) == found


def test_the_older_of_two_has_the_short_name() -> None:
    old, new = project("shop", service("web"), since=5), project("shop", service("web"), mark="0000bbbb", since=9)
    both = routes.Routes([new, old])
    assert both.find("web.shop.localhost").project is old
    assert both.host_of(old, old.services[0]) == "web.shop.localhost"
    assert both.host_of(new, new.services[0]) == "web.shop-0000bbbb.localhost"
    assert both.find("web.shop-0000bbbb.localhost").project is new
    assert routes.Routes([new]).host_of(new) == "shop.localhost"


def test_a_name_that_looks_like_an_id_is_not_taken_away() -> None:
    named = project("shop-1111aaaa", mark="2222cccc", since=9)
    known = routes.Routes([SHOP, named])
    assert known.find("shop-1111aaaa.localhost").project is named
    assert known.find("shop.localhost").project is SHOP


def test_the_first_of_two_services_of_one_name() -> None:
    one = project("p", service("a_b"), service("a-b"))
    assert routes.Routes([one]).find("a-b.p.localhost").service == one.services[0]


def offers(*ports: int) -> list[routes.Offer]:
    return [routes.Offer(port) for port in ports]


@pytest.mark.parametrize(
    ("published", "exposed", "port"),
    [
        ([], [], 0),
        (offers(9000), [], 9000),
        (offers(9000, 8080), [], 8080),
        (offers(9000, 8080, 80), [], 80),
        # What is published is the spec's own word, what is exposed perhaps a base image's.
        (offers(9000), offers(80), 9000),
        ([], offers(9001, 3000), 3000),
        (offers(5432), offers(8000), 8000),
        (offers(5432), offers(6379), 0),
        (offers(9229, 1234), [], 1234),
        ([*offers(80), routes.Offer(9000, ("", "http"))], [], 9000),
        ([*offers(80), routes.Offer(5432, ("web", ""))], [], 5432),
    ],
)
def test_the_port(published: list[routes.Offer], exposed: list[routes.Offer], port: int) -> None:
    assert routes.choose(published, exposed) == port


def test_whose_names_are_ours() -> None:
    assert routes.is_ours("localhost")
    assert routes.is_ours("a.b.localhost")
    assert not routes.is_ours("notlocalhost")
    assert not routes.is_ours("localhost.evil.test")
    assert not routes.is_ours("127.0.0.1")


def test_what_is_shown_is_never_markup() -> None:
    said = answers.unknown(KNOWN, "<script>.localhost", None, lambda host: f"https://{host}")
    assert said.status == 404
    assert "<script>" not in said.page.html()
    assert "&lt;script&gt;" in said.page.html()
    link = pages.Page("t", links=[pages.Link('"><b>', "<i>", "`<u>`")]).html()
    assert "<b>" not in link
    assert "<i>" not in link
    assert "<code>&lt;u&gt;</code>" in link
