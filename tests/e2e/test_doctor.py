"""``devenv doctor`` on this machine, as every kind of user."""

from __future__ import annotations

from tests.support import runner


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
