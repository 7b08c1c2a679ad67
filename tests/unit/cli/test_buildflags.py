"""The values of `devenv image build`'s flags, and what is printed of Dockerfiles without building them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devenv import errors
from devenv.build import request
from devenv.build.dockerfile import parser
from devenv.cli import bake, buildflags, frontend
from devenv.reconcile import dockerfiles


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("id=a,src=./f", request.Secret("a", path="/here/f")),
        ("id=a,source=/f", request.Secret("a", path="/f")),
        ("id=a,type=file,src=f", request.Secret("a", path="/here/f")),
        ("id=a,env=B", request.Secret("a", variable="B")),
        ("type=env,id=A", request.Secret("A", variable="A")),
        ("type=env,id=A,src=B", request.Secret("A", variable="B")),
        ("id=GIVEN", request.Secret("GIVEN", variable="GIVEN")),
        ("id=f", request.Secret("f", path="/here/f")),
    ],
)
def test_secrets(text: str, made: request.Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "1")
    assert buildflags.secret(text, "/here") == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("out", request.Output("local", "/here/out")),
        ("-", request.Output("tar", "-")),
        ("type=local,dest=/out", request.Output("local", "/out")),
        ("type=tar", request.Output("tar", "-")),
        ("type=oci,dest=x.tar", request.Output("oci", "/here/x.tar")),
        ("type=docker", request.Output("image", "")),
        ("type=docker,dest=x.tar", request.Output("docker", "/here/x.tar")),
        ("type=registry,name=x", request.Output("image", "", {"name": "x"})),
        ("type=image,name=a,push=true", request.Output("image", "", {"name": "a", "push": "true"})),
    ],
)
def test_outputs(text: str, made: request.Output) -> None:
    assert buildflags.outputs([text], "/here", load=False) == (made,)


def test_load_keeps_the_image_besides() -> None:
    made = buildflags.outputs(["out"], "/here", load=True)
    assert [each.kind for each in made] == ["local", "image"]
    assert buildflags.outputs([], "/here", load=True) == ()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a=./dir", ("a", "/here/dir")),
        ("a=..", ("a", "/")),
        ("a=docker-image://alpine", ("a", "docker-image://alpine")),
        ("a=https://example.org/x.git", ("a", "https://example.org/x.git")),
    ],
)
def test_contexts(text: str, made: tuple[str, str]) -> None:
    assert buildflags.context(text, "/here") == made


@pytest.mark.parametrize(("text", "made"), [("64m", 64 << 20), ("1g", 1 << 30), ("512", 512), ("2kb", 2048), ("", 0)])
def test_sizes(text: str, made: int) -> None:
    assert buildflags.size(text, option="--shm-size") == made


@pytest.mark.parametrize(("text", "made"), [("nofile=1:2", ("nofile", 1, 2)), ("nproc=5", ("nproc", 5, 5))])
def test_ulimits(text: str, made: tuple[str, int, int]) -> None:
    assert buildflags.ulimit(text) == made


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: buildflags.secret("src=x", "/"),
        lambda: buildflags.secret("id=a,type=ssh", "/"),
        lambda: buildflags.outputs(["type=ftp"], "/", load=False),
        lambda: buildflags.outputs(["type=local"], "/", load=False),
        lambda: buildflags.context("a", "/"),
        lambda: buildflags.size("x", option="--shm-size"),
        lambda: buildflags.ulimit("nofile"),
        lambda: buildflags.entitlements(["all"], ""),
        lambda: frontend.parse("lint,format=xml"),
    ],
)
def test_what_makes_no_sense(wrong: Any) -> None:
    with pytest.raises(errors.UsageError):
        wrong()


TEXT = """\
ARG VERSION=12
# tools is what others are built with
FROM debian:${VERSION} AS tools
COPY --from=golang:1 /go /go
# WHERE is the mirror
ARG WHERE=here
RUN --mount=type=secret,id=key,required --mount=type=ssh --mount=type=bind,from=busybox true
FROM tools
COPY --from=tools /a /b
COPY --from=0 /a /b
FROM scratch AS left
"""


def asked(**more: Any) -> request.Request:
    return request.Request(context="/src", inline=TEXT, **more)


def test_the_images_that_a_dockerfile_names() -> None:
    dockerfile = parser.parse(TEXT, file="Dockerfile")
    assert dockerfiles.images(dockerfile, asked()) == ["debian:12", "golang:1", "busybox"]
    given = asked(arguments={"VERSION": "13"}, contexts={"busybox": "/elsewhere"})
    assert dockerfiles.images(dockerfile, given) == ["debian:13", "golang:1"]


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert frontend.call("targets", [asked()]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "TARGET           DESCRIPTION",
        "tools            is what others are built with",
        "1",
        "left (default)",
    ]


def test_outline(capsys: pytest.CaptureFixture[str]) -> None:
    assert frontend.call("outline", [asked(target="1", arguments={"WHERE": "there"})], as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "1",
        "args": [
            {"name": "VERSION", "value": "12", "description": ""},
            {"name": "WHERE", "value": "there", "description": "is the mirror"},
        ],
        "secrets": [{"name": "key", "required": True}],
        "ssh": [{"name": "default", "required": False}],
    }


def test_bake() -> None:
    made = bake.document(
        {
            "web": asked(
                tags=("docker.io/library/shop-web:latest",),
                arguments={"A": "1", "B": None},
                secrets=(request.Secret("k", variable="K"), request.Secret("f", path="/f")),
                ssh=(request.Agent("default", ()),),
                cache_to=(request.Exchange("local", {"dest": "/c"}),),
            )
        }
    )
    assert made == {
        "group": {"default": {"targets": ["web"]}},
        "target": {
            "web": {
                "context": "/src",
                "dockerfile-inline": TEXT,
                "args": {"A": "1"},
                "tags": ["shop-web:latest"],
                "secret": ["id=k,type=env,env=K", "id=f,type=file,src=/f"],
                "ssh": ["default"],
                "cache-to": ["type=local,dest=/c"],
                "output": ["type=docker"],
            }
        },
    }
