from __future__ import annotations

import pytest

from tests.support import projects, runner

pytestmark = pytest.mark.root


def test_a_spec_for_what_is_there(devenv: runner.Devenv, project: projects.Project) -> None:
    (project / "web").mkdir()
    (project / "web" / "requirements.txt").write_text("flask\nredis\n")
    text = devenv("init", "--print").stdout
    assert not (project / "devenv.yaml").exists()
    done = devenv("init")
    assert done.stdout == "devenv.yaml\n"
    assert "found a Flask project in `web`, a client of redis" in done.stderr
    assert (project / "devenv.yaml").read_text() == text
    assert devenv("config", "--services").stdout.split() == ["cache", "web"]
    assert "`devenv.yaml` is there already" in devenv("init", code=2).stderr


def test_a_compose_file_is_read_as_it_is(devenv: runner.Devenv, project: projects.Project) -> None:
    (project / "compose.yaml").write_text("services: {web: {image: x}}\n")
    assert "`compose.yaml` is there already, and devenv reads it as it is" in devenv("init", code=2).stderr


def test_where_nothing_is_it_is_the_guestbook(devenv: runner.Devenv, project: projects.Project) -> None:
    assert "nothing in this folder is recognised" in devenv("init", "--print", code=2).stderr
    assert "guestbook/devenv.yaml" in devenv("init").stdout.split()
