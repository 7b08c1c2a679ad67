"""`type: image`: the files of another image, read-only, beside a container's own."""

from __future__ import annotations

import pytest

from tests.support import projects, runner

pytestmark = pytest.mark.root

SPEC = """
    name: lib
    services:
      web:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes:
          - {type: image, source: models:1, target: /models}
          - {type: image, source: models:1, target: /german, image: {subpath: de}}
          - {type: image, source: models:1, target: /one.txt, image: {subpath: de/word}}
"""
DOCKERFILE = "FROM scratch\nCOPY en /en\nCOPY de /de\nCOPY last /en/word\n"


@pytest.fixture
def models(request: pytest.FixtureRequest, anyone: runner.Devenv, project: projects.Project) -> projects.Project:
    project.write({"models/en/word": "hello", "models/de/word": "hallo", "models/last": "hi"})
    project.write({"models/de/link": ""})
    (project / "models/de/link").unlink()
    (project / "models/de/link").symlink_to("/etc/passwd")
    if request.param == "one layer":
        (project / "models/last").rename(project / "models/en/word")
        project.write({"models/Dockerfile": "FROM scratch\nCOPY . /\n"})
    else:
        project.write({"models/Dockerfile": DOCKERFILE})
    anyone("image", "build", "-t", "models:1", "models")
    project.write(SPEC)
    return project


@pytest.mark.parametrize(
    ("anyone", "models"),
    [("root", "one layer"), ("root", "several layers"), ("dvrange", "several layers"), ("dvplain", "one layer")],
    indirect=True,
)
def test_whole_and_in_part(anyone: runner.Devenv, models: projects.Project) -> None:
    anyone("up", "-d")
    assert anyone.inside("web", "cat /models/en/word /models/de/word /german/word /one.txt") == "hihallohallohallo"
    assert "Read-only" in anyone("exec", "-T", "web", "sh", "-c", "touch /models/x /german/x 2>&1", code=None).stdout
    assert anyone.inside("web", "stat -c %U /models/en/word /german") == "root\nroot"
    # Nothing to do is found so; and what is mounted is kept, whatever is removed meanwhile.
    before = anyone.ps()["lib-web-1"]["ID"]
    anyone("up", "-d")
    assert anyone.ps()["lib-web-1"]["ID"] == before
    refused = anyone("image", "rm", "models:1", code=None)
    assert "lib-web-1" in refused.stderr
    anyone("system", "prune", "-af")
    anyone("restart", "web")
    assert anyone.inside("web", "cat /one.txt") == "hallo"


def test_an_image_that_has_moved_makes_the_container_anew(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write({"models/word": "one", "models/Dockerfile": "FROM scratch\nCOPY word /de/\n"}).write(SPEC)
    devenv("image", "build", "-t", "models:1", "models")
    devenv("up", "-d")
    project.write({"models/word": "two"})
    devenv("image", "build", "-t", "models:1", "models")
    assert "volumes" in devenv("plan").stdout
    devenv("up", "-d")
    assert devenv.inside("web", "cat /models/de/word") == "two"


@pytest.mark.parametrize("layers", [1, 2])
def test_in_a_user_namespace_of_its_own(devenv: runner.Devenv, project: projects.Project, layers: int) -> None:
    more = "COPY word /en/\n" if layers == 2 else ""
    project.write({"models/word": "one", "models/Dockerfile": f"FROM scratch\nCOPY word /de/\n{more}"}).write(SPEC)
    project.edit(r"^( +)command:", r"\1userns_mode: auto\n\1command:")
    devenv("image", "build", "-t", "models:1", "models")
    devenv("up", "-d")
    assert devenv.inside("web", "cat /models/de/word /one.txt; stat -c %u /models/de/word /german").split() == [
        "oneone0",
        "0",
    ]


def test_what_is_not_there_is_said(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.replace("models:1", "127.0.0.1:9/models:1"))
    assert "127.0.0.1:9/models:1" in devenv("up", "-d", code=4).stderr
    project.write(SPEC)
    project.write({"models/word": "one", "models/Dockerfile": "FROM scratch\nCOPY word /en/\n"})
    devenv("image", "build", "-t", "models:1", "models")
    assert "`subpath: de`" in devenv("up", "-d", code=None).stderr
    project.edit(r"subpath: de}", "subpath: ../../etc}")
    assert "subpath" in devenv("up", "-d", code=None).stderr
