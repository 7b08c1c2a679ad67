"""What `security_opt` says of system calls, and when it makes a container anew."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from devenv import errors
from devenv.reconcile import checking, confinement, convert, desired
from devenv.runtime import seccomp, seccomp_profile

LOG = '{"defaultAction": "SCMP_ACT_LOG"}'
LACK = "this kernel has no system call filters"


def service(*options: str, **fields: Any) -> dict[str, Any]:
    return {"image": "host:", "security_opt": list(options), **fields}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> str:
    (tmp_path / "p.json").write_text(LOG)
    return str(tmp_path)


@pytest.mark.parametrize("option", ["seccomp:p.json", "seccomp=./p.json"])
def test_files_are_relative_to_the_project(folder: str, option: str) -> None:
    found = confinement.profile(service(option), folder)
    assert isinstance(found, seccomp_profile.Profile)
    assert found.head["defaultAction"] == "SCMP_ACT_LOG"
    assert confinement.profile(service(f"seccomp:{folder}/p.json"), "/") == found


def test_words(folder: str) -> None:
    assert confinement.profile(service(), folder) == "default"
    assert confinement.profile(service("seccomp:builtin"), folder) == "default"
    assert confinement.profile(service("seccomp:unconfined"), folder) is None
    assert confinement.profile(service("seccomp=unconfined", privileged=True), folder) is None
    assert convert.security(service("seccomp:")).notes


def test_a_machine_without_filters(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run all the same, and say so; a profile that was asked for is not passed over."""
    monkeypatch.setattr(seccomp, "available", lambda: LACK)
    assert confinement.profile(service(), folder) is None
    assert confinement.notes(service(), folder) == [f"it may make every system call: {LACK}"]
    assert confinement.notes(service("seccomp:unconfined"), folder) == []
    assert confinement.notes(service(privileged=True), folder) == []
    with pytest.raises(errors.HostError, match=r"the seccomp profile `p.json` can't be used: this kernel"):
        confinement.profile(service("seccomp:p.json"), folder)


def environment(folder: str, *options: str) -> desired.Environment:
    return desired.Environment(
        project={"services": {"a": service(*options)}}, directory=folder, config_files=(), scale={}
    )


def test_a_file_is_read_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for it, and as often as it does, until it changes."""
    read = seccomp_profile.read
    paths: list[str] = []
    monkeypatch.setattr(seccomp_profile, "read", lambda path: (paths.append(path), read(path))[1])
    asked = service("seccomp:p.json")
    for _ in range(2):
        confinement.check("a", asked, folder)
        confinement.notes(asked, folder)
        confinement.digest(asked, folder)
        confinement.profile(asked, folder)
    assert len(paths) == 1
    pathlib.Path(folder, "p.json").write_text(LOG + " ")
    confinement.profile(asked, folder)
    assert len(paths) == 2


@pytest.mark.parametrize("kind", ["fifo", "endless"])
def test_a_profile_that_is_no_file(folder: str, kind: str) -> None:
    path = pathlib.Path(folder, "q.json")
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(errors.SpecError, match=r"q\.json"):
        confinement.profile(service("seccomp:q.json"), folder)


def test_bad_profiles_are_refused_while_planning(folder: str) -> None:
    checking.check(environment(folder, "seccomp:p.json"), ["a"], {})
    with pytest.raises(errors.SpecError, match=r"service `a`: the seccomp profile `.*/q.json` can't be read"):
        checking.check(environment(folder, "seccomp:q.json"), ["a"], {})


def test_only_a_files_content_counts_for_the_config_digest(folder: str) -> None:
    def sections(*options: str) -> dict[str, str]:
        return desired.sections(environment(folder, *options), "a", "sha256:0")

    plain, file = sections(), sections("seccomp:p.json")
    assert "security_opt" not in plain
    assert sections("seccomp:p.json") == file
    pathlib.Path(folder, "p.json").write_text(LOG.replace("LOG", "ALLOW"))
    changed = sections("seccomp:p.json")
    assert {name for name in file if file[name] != changed[name]} == {"security_opt"}
    pathlib.Path(folder, "p.json").unlink()
    assert sections("seccomp:p.json")["security_opt"] not in {file["security_opt"], changed["security_opt"]}
