from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.build import request
from devenv.reconcile import building

DIGEST = f"sha256:{'1' * 64}"


def made(build: dict[str, Any], *, images: dict[str, str] | None = None, **more: Any) -> request.Request:
    wishes = more.pop("wishes", building.Wishes())
    service = {"build": {"context": "/src/web", "dockerfile": "Dockerfile", **build}, **more}
    project = {
        "name": "shop",
        "services": {"web": service, "base": {"build": {"context": "/src/base"}}},
        "secrets": {
            "token": {"environment": "TOKEN"},
            "key": {"file": "/src/key"},
            "given": {"environment": "GIVEN", "content": "42"},
            "asked": {"x-devenv": {"command": "pass show x"}},
            "nothing": {"external": True},
        },
    }
    return building.make(project, "web", wishes, directory="/src", images=images)


@pytest.mark.parametrize(
    ("build", "field", "value"),
    [
        ({}, "context", "/src/web"),
        ({}, "dockerfile", ""),
        ({}, "service", "web"),
        ({}, "tags", ("docker.io/library/shop-web:latest",)),
        ({"context": "https://example.org/x.git#main:sub"}, "context", "https://example.org/x.git#main:sub"),
        ({"dockerfile": "dev.Dockerfile"}, "dockerfile", "/src/web/dev.Dockerfile"),
        ({"dockerfile": "/elsewhere/Dockerfile"}, "dockerfile", "/elsewhere/Dockerfile"),
        ({"context": "https://example.org/x.git", "dockerfile": "sub/D"}, "dockerfile", "sub/D"),
        ({"dockerfile_inline": "FROM scratch"}, "inline", "FROM scratch"),
        ({"target": "dev"}, "target", "dev"),
        ({"args": {"A": "1", "B": ""}}, "arguments", {"A": "1", "B": ""}),
        ({"args": ["A=1=2", "B"]}, "arguments", {"A": "1=2", "B": None}),
        ({"labels": {"x": 1}}, "labels", {"x": "1"}),
        ({"tags": ["a:b", "a:b"]}, "tags", ("docker.io/library/shop-web:latest", "docker.io/library/a:b")),
        ({"secrets": [{"source": "token"}]}, "secrets", (request.Secret("token", variable="TOKEN"),)),
        ({"secrets": [{"source": "key", "target": "id"}]}, "secrets", (request.Secret("id", path="/src/key"),)),
        ({"secrets": [{"source": "given"}]}, "secrets", (request.Secret("given", value=b"42"),)),
        ({"secrets": [{"source": "asked"}]}, "secrets", (request.Secret("asked"),)),
        ({"ssh": ["default"]}, "ssh", (request.Agent("default", ()),)),
        ({"ssh": ["k=./key,/b"]}, "ssh", (request.Agent("k", ("/src/key", "/b")),)),
        ({"network": "none"}, "network", "none"),
        ({"network": "host"}, "entitlements", frozenset({"network.host"})),
        ({"privileged": True}, "entitlements", frozenset({"security.insecure"})),
        ({"privileged": True}, "privileged", True),
        ({"entitlements": ["device"]}, "entitlements", frozenset({"device"})),
        ({"shm_size": "67108864"}, "shm_size", 67108864),
        (
            {"ulimits": {"nproc": 5, "nofile": {"soft": 1, "hard": 2}}},
            "ulimits",
            (request.Ulimit("nofile", 1, 2), request.Ulimit("nproc", 5, 5)),
        ),
        ({"extra_hosts": ["a=1.2.3.4", "b=::1"]}, "extra_hosts", (("a", "1.2.3.4"), ("b", "::1"))),
        ({"cache_from": ["alpine"]}, "cache_from", (request.Exchange("registry", {"ref": "alpine"}),)),
        ({"cache_to": ["type=local,dest=./c"]}, "cache_to", (request.Exchange("local", {"dest": "/src/c"}),)),
        ({"pull": True}, "pull", True),
        ({"no_cache": True}, "no_cache", True),
        ({"no_cache_filter": ["a", "b"]}, "no_cache_stages", frozenset({"a", "b"})),
        ({"platforms": ["linux/arm64", "linux/amd64"]}, "platforms", ("linux/arm64", "linux/amd64")),
        ({"additional_contexts": {"r": "/src/rel"}}, "contexts", {"r": "/src/rel"}),
    ],
)
def test_a_key_of_build(build: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(made(build), field) == value


def test_the_image_of_another_service_goes_by_its_digest() -> None:
    contexts = {"additional_contexts": {"below": "service:base"}}
    assert made(contexts, images={"base": DIGEST}).contexts == {
        "below": f"image:{DIGEST}",
        "shop-base": f"image:{DIGEST}",
    }


@pytest.mark.parametrize(
    ("more", "tags"),
    [
        ({"image": "me/web:dev"}, ("docker.io/me/web:dev",)),
        ({"image": "ghcr.io/me/web"}, ("ghcr.io/me/web:latest",)),
    ],
)
def test_the_name_of_the_image(more: dict[str, Any], tags: tuple[str, ...]) -> None:
    assert made({}, **more).tags == tags


def test_services_are_built_in_lower_case() -> None:
    assert building.image_name("shop", "Web", {}) == "shop-web"


def test_platforms_are_for_publishing() -> None:
    both = {"platforms": ["linux/amd64", "linux/arm64"]}
    single = building.Wishes(single_platform=True)
    assert made(both, wishes=single).platforms == ()
    assert made(both, wishes=single, platform="linux/arm64").platforms == ("linux/arm64",)
    assert made({}, platform="linux/arm64").platforms == ("linux/arm64",)


def test_the_command_line_adds_to_it() -> None:
    wishes = building.Wishes(arguments={"A": "2"}, ssh=("k",), no_cache=True, pull=True, environ={"X": "1"})
    asked = made({"args": {"A": "1", "B": "1"}, "ssh": ["default"]}, wishes=wishes)
    assert asked.arguments == {"A": "2", "B": "1"}
    assert [agent.id for agent in asked.ssh] == ["default", "k"]
    assert (asked.no_cache, asked.pull, asked.environ) == (True, True, {"X": "1"})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ({"network": "backend"}, "wants the network `backend`"),
        ({"secrets": [{"source": "nothing"}]}, "neither `file:` nor `environment:`"),
        ({"cache_to": ["type=gha"]}, "a cache of type `gha` is not known"),
        ({"tags": ["oci:x"]}, "can't be called `oci:x`"),
    ],
)
def test_what_cannot_be(build: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.BuildError, match=message):
        made(build)


def test_what_has_no_effect_is_said() -> None:
    build = {"provenance": "mode=max", "sbom": "true", "isolation": "hyperv"}
    assert [note.split("`")[3] for note in building.notes("web", {"build": build})] == [
        "build.provenance",
        "build.sbom",
        "build.isolation",
    ]
    assert not building.notes("web", {"build": {"provenance": "false", "isolation": "default"}})


def _project(**builds: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "shop",
        "services": {name: {"build": {"context": "/src", **build}} for name, build in builds.items()},
    }


def test_who_is_built_upon_whom() -> None:
    project = _project(web={"additional_contexts": {"b": "service:base"}}, base={}, worker={}, tools={})
    bases = {"worker": ["docker.io/library/shop-web:latest"], "tools": ["docker.io/library/redis:latest"]}
    needed = building.needs(project, ["web", "base", "worker", "tools"], bases)
    assert needed == {"base": set(), "tools": set(), "web": {"base"}, "worker": {"web"}}
    assert building.waves(needed) == [["base", "tools"], ["web"], ["worker"]]


def test_a_circle_is_named() -> None:
    with pytest.raises(errors.BuildError, match="`a` -> `b`"):
        building.waves({"a": {"b"}, "b": {"a"}, "c": set()})


def test_a_build_brings_the_services_it_is_built_upon() -> None:
    project = _project(web={"additional_contexts": {"b": "service:base"}}, base={}, other={})
    project["services"]["db"] = {"image": "postgres"}
    assert building.with_bases(project, ["web", "db"]) == ["base", "web"]


def test_what_starts_services_is_told_the_names_of_their_images() -> None:
    project = _project(web={})
    project["services"]["db"] = {"image": "postgres"}
    assert building.named(project)["services"] == {
        "web": {"build": {"context": "/src"}, "image": "shop-web"},
        "db": {"image": "postgres"},
    }


def test_a_lock_counts_however_a_name_is_written() -> None:
    pins = building.pins({"docker.io/library/redis:latest": DIGEST, "ghcr.io/x/y:1": DIGEST})
    assert pins["redis"] == pins["redis:latest"] == pins["docker.io/library/redis"] == f"redis:latest@{DIGEST}"
    assert pins["ghcr.io/x/y:1"] == f"ghcr.io/x/y:1@{DIGEST}"
