"""What is no configuration, and what only looks odd."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from devenv import errors
from devenv.oci import checks
from devenv.runtime import sysctl

GOOD: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


def check(**changes: Any) -> list[str]:
    """The warnings."""
    found = {**copy.deepcopy(GOOD), **changes}
    warnings: list[str] = []
    checks.config(json.loads(json.dumps(found)), warn=warnings.append)
    return warnings


@pytest.mark.parametrize("version", ["1.0.0", "1.2.1", "1.3.0", "1.3.0+dev", "1.0.2-rc1", "1.9.0"])
def test_versions(version: str) -> None:
    assert check(ociVersion=version) == []


@pytest.mark.parametrize("version", ["", None, "2.0.0", "0.9.0", "1.2", "one", 1])
def test_other_versions(version: Any) -> None:
    with pytest.raises(errors.ContainerError):
        check(ociVersion=version)


def test_unknown_properties_are_ignored() -> None:
    assert check(unknown={"a": 1}, linux={"namespaces": [], "soon": True}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": None}, "`root` is required"),
        ({"root": {"path": ""}}, "root.path"),
        ({"hostname": "x"}, "hostname"),
        ({"mounts": [{"source": "/"}]}, "destination"),
        ({"mounts": [{"destination": "/x", "options": ["bind"]}]}, "source"),
        ({"mounts": "none"}, "`mounts` is not a list"),
        ({"mounts": [{"destination": "/x", "options": [1]}]}, "mounts[0].options[0]"),
        ({"mounts": [{"destination": "/x\0"}]}, "NUL"),
        ({"mounts": [{"destination": "/x", "type": "tmpfs", "options": ["idmap"]}]}, "bind"),
        ({"mounts": [{"destination": "/x", "source": "/", "options": ["bind", "idmap"]}]}, "mappings"),
        ({"process": {"args": [], "cwd": "/"}}, "args"),
        ({"process": {"args": ["x"], "cwd": "here"}}, "absolute"),
        ({"process": {"args": ["x"], "cwd": "/", "env": ["A"]}}, "environment"),
        ({"process": {"args": ["x"], "cwd": "/", "user": {"uid": -1}}}, "no id"),
        ({"process": {"args": ["x"], "cwd": "/", "user": {"uid": 1 << 32}}}, "no id"),
        ({"process": {"args": ["x"], "cwd": "/", "oomScoreAdj": 2000}}, "oomScoreAdj"),
        ({"process": {"args": ["x"], "cwd": "/", "terminal": 1}}, "true or false"),
        ({"process": {"args": ["x"], "cwd": "/", "ioPriority": {"class": "BEST"}}}, "ioPriority"),
        ({"process": {"args": ["x"], "cwd": "/", "execCPUAffinity": {"initial": "3-1"}}}, "backwards"),
        ({"hooks": {"prestart": [{"path": "relative"}]}}, "absolute"),
        ({"hooks": {"prestart": [{"path": "/x", "timeout": 0}]}}, "timeout"),
        ({"linux": {"namespaces": [{"type": "moon"}]}}, "moon"),
        ({"linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]}}, "twice"),
        ({"linux": {"namespaces": [{"type": "pid", "path": "proc"}]}}, "not absolute"),
        ({"linux": {"namespaces": [{"type": "user"}]}}, "mappings"),
        ({"linux": {"uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}}, "user namespace"),
        ({"linux": {"timeOffsets": {"boottime": {"secs": 1}}}}, "time namespace"),
        ({"linux": {"maskedPaths": ["/x"]}}, "MNT namespace"),
        ({"linux": {"rootfsPropagation": "sideways"}}, "rootfsPropagation"),
        ({"linux": {"personality": {"domain": "BSD"}}}, "BSD"),
        ({"linux": {"memoryPolicy": {"mode": "MPOL_BIND"}}}, "needs nodes"),
        ({"linux": {"devices": [{"path": "/dev/x", "type": "z"}]}}, "type"),
        ({"linux": {"netDevices": {"eth0": {}}}}, "NET namespace"),
        ({"linux": {"intelRdt": {"closID": "a"}}}, "Intel RDT"),
    ],
)
def test_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.ContainerError) as caught:
        check(**changes)
    assert words in caught.value.message


def test_a_capability_that_doesnt_exist_is_a_warning() -> None:
    process = {"args": ["x"], "cwd": "/", "capabilities": {"bounding": ["CAP_FLYING"]}}
    assert check(process=process) == ["ignoring unknown or unavailable capability CAP_FLYING"]


@pytest.mark.parametrize("name", ["a", "A-b_c+d.1", "x" * 1024])
def test_ids(name: str) -> None:
    checks.container_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "a\n", ".x", "x" * 1025])
def test_no_ids(name: str) -> None:
    with pytest.raises(errors.UsageError):
        checks.container_id(name)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10)])
def test_signals(text: str, number: int) -> None:
    assert checks.signal(text) == number


def test_sysctls_with_slashes() -> None:
    assert sysctl.dotted("net/ipv4/conf/eno2.100/rp_filter") == "net.ipv4.conf.eno2/100.rp_filter"


def spoiled(path: list[str | int], value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(config: dict[str, Any]) -> None:
        place: Any = config
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return spoil


@pytest.mark.parametrize("value", [None, [], {}, "x", 7, True, [None], [[]], {"a": None}])
@pytest.mark.parametrize(
    "path",
    [
        ["root"],
        ["process"],
        ["linux"],
        ["mounts"],
        ["hooks"],
        ["process", "args"],
        ["process", "user"],
        ["linux", "namespaces"],
    ],
)
def test_no_shape_is_a_surprise(path: list[str | int], value: Any) -> None:
    """Whatever stands anywhere, it is taken or refused in words."""
    config = copy.deepcopy(GOOD)
    spoiled(path, value)(config)
    with contextlib.suppress(errors.ContainerError):
        checks.config(config, warn=lambda _: None)
