"""Several files, `extends` and `include`: what wins, what is added, and whose folder counts."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from tests.unit.spec.support import load, refused, service, write


def merged(tmp_path: pathlib.Path, base: str, over: str) -> dict[str, Any]:
    """The service of two files whose `web` has these attributes besides an image."""
    files = {"a.yaml": base, "b.yaml": over}
    top = "\nvolumes: {v: {}, w: {}}\nnetworks: {n: {}, m: {}}\nsecrets: {s: {file: s}}\nconfigs: {c: {file: c}}\n"
    write(tmp_path, {name: f"services:\n  web: {{image: x, {text}}}{top}" for name, text in files.items()})
    return service(tmp_path, None, files=list(files))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "over", "attribute", "expected"),
    [
        ("command: [a, b]", "command: [c]", "command", ["c"]),
        ("entrypoint: a b", "entrypoint: c", "entrypoint", ["c"]),
        ("environment: {A: 1, B: 1}", "environment: [B=2, C=2]", "environment", {"A": "1", "B": "2", "C": "2"}),
        ("labels: [a=1]", "labels: {a: 2, b: 2}", "labels", {"a": "2", "b": "2"}),
        ("dns: 1.1.1.1", "dns: [8.8.8.8, 1.1.1.1]", "dns", ["1.1.1.1", "8.8.8.8"]),
        ("cap_add: [A]", "cap_add: [B, A]", "cap_add", ["A", "B"]),
        ("expose: [1]", "expose: ['1', 2]", "expose", ["1", "2"]),
        ("extra_hosts: ['a:1.1.1.1']", "extra_hosts: {b: 2.2.2.2}", "extra_hosts", ["a=1.1.1.1", "b=2.2.2.2"]),
        ("logging: {driver: a, options: {x: 1}}", "logging: {options: {y: 2}}", "logging", {"driver": "a", "options": {"x": "1", "y": "2"}}),
        ("logging: {driver: a, options: {x: 1}}", "logging: {driver: b}", "logging", {"driver": "b"}),
        ("healthcheck: {test: [CMD, a], interval: 5s}", "healthcheck: {test: b}", "healthcheck", {"test": ["CMD-SHELL", "b"], "interval": "5s"}),
        ("ulimits: {a: {soft: 1, hard: 2}}", "ulimits: {a: 3, b: 4}", "ulimits", {"a": 3, "b": 4}),
        ("profiles: []", "profiles: !reset null", "profiles", None),
        ("cap_drop: [A]", "cap_drop: !override [B]", "cap_drop", ["B"]),
        ("user: a", "user: !reset ''", "user", None),
        ("tmpfs: /a", "tmpfs: ['/a', '/b']", "tmpfs", ["/a", "/b"]),
        ("devices: ['/dev/a:/dev/x']", "devices: ['/dev/b:/dev/x']", "devices", [{"source": "/dev/b", "target": "/dev/x", "permissions": "rwm"}]),
        ("sysctls: {a: 1}", "sysctls: [a=2]", "sysctls", {"a": "2"}),
        ("networks: [n]", "networks: {m: {aliases: [z]}}", "networks", {"n": None, "m": {"aliases": ["z"]}}),
    ],
)  # fmt: skip
def test_attributes(tmp_path: pathlib.Path, base: str, over: str, attribute: str, expected: object) -> None:
    found = merged(tmp_path, base, over)
    assert found.get(attribute) == expected


def test_ports_are_told_apart_by_address_and_number(tmp_path: pathlib.Path) -> None:
    found = merged(tmp_path, "ports: ['80:80', '127.0.0.1:81:81']", "ports: ['80:80', {target: 81, published: 82}]")
    assert [(port.get("host_ip"), port["published"], port["target"]) for port in found["ports"]] == [
        (None, "80", 80),
        ("127.0.0.1", "81", 81),
        (None, "82", 81),
    ]


def test_mounts_are_told_apart_by_target(tmp_path: pathlib.Path) -> None:
    found = merged(
        tmp_path,
        "volumes: ['./a:/a', './b:/b'], secrets: [s], configs: [{source: c, target: /c}]",
        "volumes: ['./z:/a'], secrets: [{source: s, target: /run/secrets/s, mode: 0400}], configs: [c]",
    )
    assert [(mount["source"], mount["target"]) for mount in found["volumes"]] == [
        (f"{tmp_path}/z", "/a"),
        (f"{tmp_path}/b", "/b"),
    ]
    assert found["secrets"] == [{"source": "s", "target": "/run/secrets/s", "mode": "0400"}]
    assert found["configs"] == [{"source": "c"}]


def test_forms_that_do_not_go_together(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"a.yaml": "services: {web: {image: x, cap_add: [A]}}", "b.yaml": "services: {web: {cap_add: A}}"})
    error = refused(tmp_path, files=["a.yaml", "b.yaml"])
    assert "`services.web.cap_add`" in error.message
    assert error.file in {"a.yaml", "b.yaml"}


def test_documents_of_one_file_merge(tmp_path: pathlib.Path) -> None:
    found = load(tmp_path, "services: {web: {image: x}}\n---\nservices: {web: {image: y}, db: {image: z}}\n").canonical
    assert {name: item["image"] for name, item in found["services"].items()} == {"web": "y", "db": "z"}


def test_extends_goes_below(tmp_path: pathlib.Path) -> None:
    text = """
services:
  base: {image: x, command: a, environment: {A: 1}, depends_on: [db]}
  middle: {extends: base, environment: {B: 2}}
  web: {extends: {service: middle}, image: y, environment: {A: 3}}
  db: {image: z}
"""
    found = service(tmp_path, text)
    assert (found["image"], found["command"]) == ("y", ["a"])
    assert found["environment"] == {"A": "3", "B": "2"}
    assert list(found["depends_on"]) == ["db"]
    assert "extends" not in found


def test_extends_from_another_folder_keeps_its_paths(tmp_path: pathlib.Path) -> None:
    write(
        tmp_path,
        {
            "lib/base.yaml": "services: {b: {image: x, build: ./app, volumes: ['./d:/d'], env_file: e.env, extends: {file: more/m.yaml, service: m}}}",
            "lib/e.env": "E=1",
            "lib/more/m.yaml": "services: {m: {volumes: ['./m:/m'], labels: {m: 1}}}",
        },
    )
    found = service(tmp_path, "services: {web: {extends: {file: lib/base.yaml, service: b}}}")
    assert found["build"]["context"] == f"{tmp_path}/lib/app"
    assert [mount["source"] for mount in found["volumes"]] == [f"{tmp_path}/lib/more/m", f"{tmp_path}/lib/d"]
    assert (found["environment"], found["labels"]) == ({"E": "1"}, {"m": "1"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: {extends: b, image: x}, b: {extends: a}}", "`a` -> `b` -> `a`"),
        ("{a: {extends: a, image: x}}", "`a` -> `a`"),
        ("{a: {extends: bb, image: x}, b: {image: x}}", "undefined service `bb`"),
        ("{a: {extends: {file: no.yaml, service: x}, image: x}}", "no file `no.yaml`"),
        ("{a: {extends: [b], image: x}}", "must be the name of a service"),
        ("{a: {extends: {file: 'https://x/y', service: b}, image: x}}", "not on this machine"),
    ],
)
def test_extends_that_lead_nowhere(tmp_path: pathlib.Path, text: str, message: str) -> None:
    error = refused(tmp_path, f"services: {text}\n")
    assert message in error.message
    assert error.line == 1


def test_include_has_its_own_folder_and_variables(tmp_path: pathlib.Path) -> None:
    write(
        tmp_path,
        {
            "lib/compose.yaml": "services: {db: {image: 'pg:${V}', volumes: ['./d:/d', 'data:/v']}}\nvolumes: {data: {}}",
            "lib/.env": "V=lib\n",
            "lib/over.yaml": "services: {db: {labels: {o: $W}}}",
            "other.env": "V=other\nW=w\n",
            ".env": "TOP=1\n",
        },
    )
    text = "include: [lib/compose.yaml]\nservices: {web: {image: x, depends_on: [db]}}\n"
    found = load(tmp_path, text).canonical
    assert found["services"]["db"]["image"] == "pg:lib"
    assert found["services"]["db"]["volumes"][0]["source"] == f"{tmp_path}/lib/d"
    assert "data" in found["volumes"]
    text = "include: [{path: [lib/compose.yaml, lib/over.yaml], project_directory: ., env_file: other.env}]\n"
    found = load(tmp_path, text).canonical["services"]["db"]
    assert (found["image"], found["labels"]) == ("pg:other", {"o": "w"})
    assert found["volumes"][0]["source"] == f"{tmp_path}/d"
    assert load(tmp_path, text, environ={"V": "shell"}).canonical["services"]["db"]["image"] == "pg:shell"


def test_the_including_file_wins(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"lib.yaml": "services: {db: {image: a, labels: {x: 1}}}"})
    found = service(tmp_path, "include: [lib.yaml]\nservices: {db: {image: b}}\n", "db")
    assert (found["image"], found["labels"]) == ("b", {"x": "1"})


def test_include_cycles_are_named_in_full(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"a.yaml": "include: [b.yaml]", "b.yaml": "include: [compose.yaml]"})
    error = refused(tmp_path, "include: [a.yaml]\n")
    assert "compose.yaml -> a.yaml -> b.yaml -> compose.yaml" in error.message
