"""``devenv doctor`` on this machine, as every kind of user."""

from __future__ import annotations

import shlex
import shutil

import pytest

from tests.support import engine, projects, runner


def test_it_tells_every_user_what_the_machine_gives(anyone: runner.Devenv) -> None:
    result = anyone("doctor", "--format", "json", code=None)
    found = {check["Name"]: check for check in anyone.json("doctor", code=None)}
    assert result.stderr == ""
    assert found["kernel"]["Status"] == "ok"
    assert {check["Status"] for check in found.values()} <= {"ok", "warn", "fail"}
    assert not [check for check in found.values() if "could not be looked at" in check["Found"]]
    if anyone.user is not None:
        assert found["user namespaces"]["Status"] == "ok"
        expected = "ok" if anyone.user.ranges else "warn"
        assert found["id ranges"]["Status"] == expected
    else:
        assert found["namespaces"]["Status"] == "ok"


def test_each_lack_has_a_line_that_mends_it(anyone: runner.Devenv) -> None:
    for check in anyone.json("doctor", code=None):
        if check["Status"] != "ok" and not check["Name"].endswith(" limits"):
            assert check["Fix"], check


def test_the_table_is_readable_without_colour(devenv: runner.Devenv) -> None:
    result = devenv("doctor", code=None)
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[0].startswith("ok    kernel ")


def test_a_wrong_format_is_one_clear_error(devenv: runner.Devenv) -> None:
    result = devenv("doctor", "--format", "xml", code=2)
    assert result.stderr.startswith("error: `xml` is no format of `devenv doctor`")


def leftovers(devenv: runner.Devenv) -> list[dict[str, str]]:
    return [check for check in devenv.json("doctor", code=None) if check["Name"] == "leftovers"]


def follow(devenv: runner.Devenv, line: str) -> None:
    """Run `cd FOLDER && devenv …`."""
    into, _, command = line.partition(" && ")
    _, folder = shlex.split(into)
    devenv(*shlex.split(command)[1:], cwd=folder)


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_what_is_left_behind_goes_by_the_line_that_is_given(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write("""
        name: shop
        services: {web: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL}}
    """)
    anyone("up", "-d")
    assert [check["Found"] for check in leftovers(anyone)] == ["none"]
    engine.kill(*(engine.find(anyone, role) for role in engine.ROLES))
    (check,) = leftovers(anyone)
    assert check["Found"].startswith("1 of `shop` run with nobody")
    follow(anyone, check["Fix"])
    assert [check["Found"] for check in leftovers(anyone)] == ["none"]
    anyone.cwd = anyone.folder
    shutil.rmtree(project)
    (check,) = leftovers(anyone)
    assert check["Found"] == f"`shop` has containers, but its folder `{project.path}` is gone"
    follow(anyone, check["Fix"])
    assert [check["Found"] for check in leftovers(anyone)] == ["none"]
    assert anyone.json("ls", "--all") == []
