from __future__ import annotations

from typing import Any

import pytest

from devenv.spec import readiness

Ready = readiness.Ready


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres", Ready("postgres", 5432)),
        ("mariadb", Ready("mysql", 3306)),
        ("redis://:7000", Ready("redis", 7000)),
        ("tcp://db:99", Ready("tcp", 99, "db")),
        ("listen", Ready("listen")),
        ("http://:8080/health?x=1", Ready("http", 8080, path="/health?x=1")),
        ("https://web.test/", Ready("http", 443, "web.test", tls=True)),
        ({"http": "/up"}, Ready("http", path="/up")),
        ({"http": {"path": "/up", "port": "80", "status": "204"}}, Ready("http", 80, path="/up", status=204)),
        ({"http": {"url": "http://localhost:9/a"}}, Ready("http", 9, "localhost", "/a")),
        ({"tcp": 5432}, Ready("tcp", 5432)),
        ({"tcp": True}, Ready("tcp")),
        ({"tcp": {"host": "h", "port": 1}}, Ready("tcp", 1, "h")),
        ({"mongo": True}, Ready("mongodb", 27017)),
        ({"log": "ready .*"}, Ready("log", pattern="ready .*")),
        ({"exec": "a b"}, Ready("exec", command=("CMD-SHELL", "a b"))),
        ({"exec": ["a", "b"]}, Ready("exec", command=("CMD", "a", "b"))),
        (
            {"tcp": 1, "interval": "90s", "retries": 2, "restart": True},
            Ready("tcp", 1, retries=2, restart=True, times={"interval": "1m30s"}),
        ),
    ],
)
def test_forms(given: Any, expected: readiness.Ready) -> None:
    assert readiness.parse(given) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("oracle", "not understood"),
        ("tcp://:70000", "`70000` is no port"),
        ("ftp://x/", "not understood"),
        ({}, "takes one of"),
        ({"tcp": 1, "http": "/"}, "takes one of `tcp`, `http`"),
        ({"tcp": 0}, "`0` is no port"),
        ({"log": "("}, "no regular expression"),
        ({"exec": []}, "names no command"),
        ({"http": {"status": 7}}, "no status"),
        ({"http": "up"}, "no path"),
        ({"http": "/a\r\nX: y"}, "no path"),
        ({"tcp": 1, "interval": "soon"}, "not a duration"),
        ({"listen": False}, "says nothing"),
    ],
)
def test_what_it_can_not_be(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + words.replace("(", r"\(")):
        readiness.parse(given)
