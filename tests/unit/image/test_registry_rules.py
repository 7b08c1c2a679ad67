"""The parts of the registry client that decide without asking anybody: challenges, proxies, addresses, pauses."""

from __future__ import annotations

import pytest

from devenv.image.registry import addresses, challenge, errors, hosts, proxy, retry


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s",scope="r:x:pull"', [("bearer", "https://a/t", "s")]),
        ('Basic realm="x"', [("basic", "x", None)]),
        ('Bearer realm = "a" , service= b', [("bearer", "a", "b")]),
        ('Basic realm="x", Bearer realm="y",service="z"', [("basic", "x", None), ("bearer", "y", "z")]),
        ('BEARER REALM="a"', [("bearer", "a", None)]),
        (r'Bearer realm="a\"b\\c",service="d,e=f"', [("bearer", 'a"b\\c', "d,e=f")]),
        ("Negotiate", [("negotiate", None, None)]),
        ('Bearer realm="a",realm="b"', [("bearer", "a", None)]),
        ("", []),
        (',,, "', []),
        ('Bearer realm="never ends', [("bearer", None, None)]),
        ("=" * 100_000, []),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, str | None, str | None]]) -> None:
    found = challenge.parse([header])
    assert [(each.scheme, each.parameters.get("realm"), each.parameters.get("service")) for each in found] == expected


def test_several_headers() -> None:
    assert [each.scheme for each in challenge.parse(['Basic realm="a"', 'Bearer realm="b"'])] == ["basic", "bearer"]


P = {
    "http_proxy": "http://plain:1",
    "HTTPS_PROXY": "http://u%40:p%3A@tls:2",
    "no_proxy": "a.com, .b.com,c.com:81,10.0.0.0/8,::1/128",
}


@pytest.mark.parametrize(
    ("scheme", "host", "port", "environ", "expected"),
    [
        ("https", "x.com", 443, P, ("tls", 2)),
        ("http", "x.com", 80, P, ("plain", 1)),
        ("https", "a.com", 443, P, None),
        ("https", "sub.a.com", 443, P, None),
        ("https", "nota.com", 443, P, ("tls", 2)),
        ("https", "b.com", 443, P, ("tls", 2)),
        ("https", "sub.b.com", 443, P, None),
        ("https", "c.com", 443, P, ("tls", 2)),
        ("https", "c.com", 81, P, None),
        ("https", "10.1.2.3", 443, P, None),
        ("https", "11.1.2.3", 443, P, ("tls", 2)),
        ("https", "localhost", 5000, P, None),
        ("https", "127.0.0.2", 5000, P, None),
        ("https", "::1", 5000, P, None),
        ("https", "x.com", 443, {**P, "NO_PROXY": "*", "no_proxy": ""}, None),
        ("https", "x.com", 443, {"ALL_PROXY": "all:3128"}, ("all", 3128)),
        ("https", "x.com", 443, {"https_proxy": "proxy"}, ("proxy", 80)),
        ("http", "x.com", 80, {"HTTP_PROXY": "http://cgi:1", "REQUEST_METHOD": "GET"}, None),
        ("https", "x.com", 443, {}, None),
    ],
)
def test_proxies(scheme: str, host: str, port: int, environ: dict[str, str], expected: tuple[str, int] | None) -> None:
    found = proxy.choose(scheme, host, port, environ)
    assert (found and (found.host, found.port)) == expected


def test_a_proxy_with_a_login() -> None:
    found = proxy.choose("https", "x.com", 443, P)
    assert found is not None
    assert found.headers == {"Proxy-Authorization": "Basic dUA6cDo="}


@pytest.mark.parametrize("text", ["socks5://x:1", "https://x:1", "http://", "http://x:y"])
def test_a_proxy_that_cannot_be_used(text: str) -> None:
    with pytest.raises(errors.RegistryError, match="proxy"):
        proxy.choose("https", "x.com", 443, {"https_proxy": text})


def test_relative_addresses() -> None:
    base = addresses.parse("https://a.com:5000/v2/x/blobs/uploads/")
    assert str(addresses.parse("/v2/y?z=1", base)) == "https://a.com:5000/v2/y?z=1"
    assert str(addresses.parse("https://b.com/", base)) == "https://b.com/"
    assert str(addresses.parse("http://[::1]:5000/x", base)) == "http://[::1]:5000/x"
    assert addresses.parse("//c.com/x", base).authority == "c.com"
    assert str(base.with_query(a="b c").with_query(d="e")).endswith("uploads/?a=b+c&d=e")


@pytest.mark.parametrize(
    "text", ["", "x", "ftp://a/", "http://", "http://a b/", "http://a\n/", "http://é/", "http://a:x/", "http://u@a/"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(errors.Untrustworthy):
        addresses.parse(text)


@pytest.mark.parametrize(
    ("host", "loopback", "link_local"),
    [
        ("localhost", True, False),
        ("x.localhost", True, False),
        ("127.9.9.9", True, False),
        ("[::1]", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("localhost.com", False, False),
        ("169.254.169.254", False, True),
        ("fe80::1", False, True),
        ("::ffff:169.254.169.254", False, True),
        ("10.0.0.1", False, False),
        ("a.com", False, False),
    ],
)
def test_special_addresses(host: str, loopback: bool, link_local: bool) -> None:
    assert (addresses.is_loopback(host), addresses.is_link_local(host)) == (loopback, link_local)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("9" * 400, 999999999.0),
        ("٣", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert retry.retry_after(value, now=10.0) == expected


def test_pauses_grow_and_end() -> None:
    policy = retry.Policy(attempts=5, first=1.0, longest=6.0)
    assert [policy.pause(count, None, chance=1.0) for count in (1, 2, 3, 4, 9)] == [1.0, 2.0, 4.0, 6.0, 6.0]
    assert policy.pause(3, None, chance=0.0) == 2.0
    assert policy.pause(1, 5.0, chance=1.0) == 5.0


def test_attempts_end_with_the_last_error() -> None:
    pauses: list[float] = []
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise errors.Temporary(errors.Unreachable(f"number {len(tries)}"))

    with pytest.raises(errors.Unreachable, match="number 3"):
        retry.call(fail, retry.Policy(attempts=3), sleep=pauses.append)
    assert (len(tries), len(pauses)) == (3, 2)


def test_progress_starts_the_count_anew() -> None:
    tries: list[int] = []

    def fail() -> str:
        tries.append(1)
        if len(tries) == 10:
            return "done"
        raise errors.Temporary(errors.Unreachable("x"))

    done = retry.call(fail, retry.Policy(attempts=3), sleep=lambda _: None, progressed=lambda: len(tries) % 2 == 0)
    assert done == "done"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("http://localhost:5000/", "localhost:5000"),
    ],
)
def test_names_of_registries(given: str, expected: str) -> None:
    assert hosts.name(given) == expected


@pytest.mark.parametrize("given", ["", "a b", "../x", "a:b:c", "a\n"])
def test_what_is_no_registry(given: str) -> None:
    with pytest.raises(errors.RegistryError, match="is no registry's name"):
        hosts.name(given)
