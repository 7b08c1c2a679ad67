"""Profiles in Docker's format: what of them a container gets, and how what is wrong is said."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from devenv import errors
from devenv.runtime import seccomp_profile

TARGET = seccomp_profile.Target("x86_64", (6, 1), frozenset({"CAP_CHOWN", "CAP_SYS_ADMIN"}))


def entry(call: str, **fields: Any) -> dict[str, Any]:
    return {"names": [call], "action": "SCMP_ACT_ALLOW", **fields}


def resolved(*entries: dict[str, Any], target: seccomp_profile.Target = TARGET, **fields: Any) -> dict[str, Any]:
    data = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(entries), **fields}
    return seccomp_profile.parse(data).resolve(target)


def names(described: dict[str, Any]) -> list[str]:
    return [name for rule in described["syscalls"] for name in rule["names"]]


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({}, True),
        ({"includes": {}, "excludes": {}}, True),
        ({"includes": None}, True),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYSLOG"]}}, False),
        ({"excludes": {"caps": ["CAP_SYSLOG"]}}, True),
        ({"excludes": {"caps": ["CAP_SYSLOG", "CAP_CHOWN"]}}, False),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"includes": {"arches": ["x86", "arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"excludes": {"arches": ["s390x"]}}, True),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {"minKernel": "5.19"}}, True),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"excludes": {"minKernel": "7.0"}}, True),
        ({"includes": {"caps": ["CAP_CHOWN"], "arches": ["arm64"]}}, False),
    ],
)
def test_conditions(fields: dict[str, Any], there: bool) -> None:
    assert names(resolved(entry("read", **fields))) == (["read"] if there else [])


def test_what_stays_is_the_runtime_specs() -> None:
    args = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    found = resolved(
        {"name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 2, "comment": "c", "args": args, "includes": {}},
        entry("write", args=[], errnoRet=None, excludes={}),
        defaultErrnoRet=38,
        flags=["SECCOMP_FILTER_FLAG_LOG"],
    )
    assert found == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2, "args": args}, entry("write")],
    }


def test_architectures() -> None:
    listed = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
    ]
    arm = TARGET._replace(architecture="aarch64")
    assert resolved(archMap=listed)["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert resolved(archMap=listed, target=arm)["architectures"] == ["SCMP_ARCH_AARCH64"]
    assert resolved(architectures=["SCMP_ARCH_X32"], target=arm)["architectures"] == ["SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "it is no JSON object"),
        ({}, "`defaultAction` is missing"),
        ({"defaultAction": "SCMP_ACT_ALOW"}, "`defaultAction` is `SCMP_ACT_ALOW`"),
        ({"syscalls": {}}, "`defaultAction` is missing"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {"a": 1}}, "`syscalls` is no list"),
        ({"archMap": [{}], "architectures": ["SCMP_ARCH_X86"]}, "`architectures` and `archMap` exclude each other"),
        ({"archMap": [{"architecture": "X86"}]}, r"`archMap\[0\]`: `X86` is not an architecture"),
        ({"archMap": ["x"]}, r"`archMap\[0\]`"),
        ({"syscalls": [entry("read", name="write")]}, r"`syscalls\[0\]` has `name` and `names`"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "`defaultAction` is missing"),
        ({"syscalls": [entry("read", includes={"minKernel": "new"})]}, r"includes.minKernel` is `new`"),
        ({"syscalls": [entry("read", includes={"minKernel": "4.8.1"})]}, r"includes.minKernel` is `4.8.1`"),
        ({"syscalls": [entry("read", excludes={"caps": "CAP_CHOWN"})]}, r"`syscalls\[0\].excludes.caps` is no list"),
        ({"syscalls": [entry("read", includes=[1])]}, r"`syscalls\[0\].includes` is no object"),
    ],
)
def test_what_is_wrong(data: Any, message: str) -> None:
    with pytest.raises(errors.ContainerError, match=message):
        seccomp_profile.parse(data)


def test_entries_for_others_are_checked_too() -> None:
    """What this machine leaves out may be what the next one uses."""
    bad = entry("read", includes={"arches": ["s390x"]}, args=[{"index": 9, "op": "SCMP_CMP_EQ", "value": 0}])
    with pytest.raises(errors.ContainerError, match=r"`syscalls\[0\].args\[0\].index` is 9"):
        resolved(bad)


def test_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(errors.SpecError, match=r"p.json` can't be read: No such file"):
        seccomp_profile.read(str(path))
    path.write_text('{\n "defaultAction": }')
    with pytest.raises(errors.SpecError, match=r"p.json` is not JSON: line 2"):
        seccomp_profile.read(str(path))
    path.write_bytes(b'\xff\xfe"')
    with pytest.raises(errors.SpecError, match="is not JSON"):
        seccomp_profile.read(str(path))
    path.write_text('{"defaultAction": "SCMP_ACT_NO"}')
    with pytest.raises(errors.SpecError, match=r"p.json` is wrong: `defaultAction`") as caught:
        seccomp_profile.read(str(path))
    assert "SCMP_ACT_ALLOW" in (caught.value.hint or "")


def test_dockers_own_is_read_whole() -> None:
    path = pathlib.Path(__file__).parent / "testdata" / "docker-default-seccomp.json"
    profile, unknown, _ = seccomp_profile.read(str(path))
    assert unknown == ()
    assert len(profile.entries) == len(json.loads(path.read_text())["syscalls"])


def test_names_of_no_call_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry("raed"), entry("s390_sthyi")]}))
    assert seccomp_profile.read(str(path))[1] == ("raed",)
