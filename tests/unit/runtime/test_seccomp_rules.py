"""`linux.seccomp` as a table: what is read from it, and how what is wrong with it is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devenv import errors
from devenv.runtime import bundle, seccomp, seccomp_rules

ALLOW = {"defaultAction": "SCMP_ACT_ALLOW"}


def rule(**fields: Any) -> dict[str, Any]:
    return {**ALLOW, "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", **fields}]}


def condition(**fields: Any) -> dict[str, Any]:
    return rule(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", **fields}])


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({}, "`linux.seccomp.defaultAction` is missing"),
        ({"defaultAction": "ALLOW"}, "`linux.seccomp.defaultAction` is `ALLOW`, which is not an action"),
        ({**ALLOW, "defaultErrnoRet": 1}, "`linux.seccomp.defaultErrnoRet` has no meaning for `SCMP_ACT_ALLOW`"),
        ({**ALLOW, "architectures": ["X86"]}, "`linux.seccomp.architectures` is `X86`, which is not an architecture"),
        (rule(names=[]), r"`linux.seccomp.syscalls\[0\].names` has to name at least one"),
        (rule(names="read"), r"`linux.seccomp.syscalls\[0\].names` has to name"),
        (rule(action=None), r"`linux.seccomp.syscalls\[0\].action` is missing"),
        (rule(action="SCMP_ACT_TRAP", errnoRet=1), r"`linux.seccomp.syscalls\[0\].errnoRet` has no meaning"),
        (rule(errnoRet=4096), "is 4096, not an errno from 0 to 4095"),
        (rule(errnoRet=-1), "is -1, not an errno"),
        (rule(errnoRet=True), "is True, not an errno"),
        (condition(op="=="), r"`linux.seccomp.syscalls\[0\].args\[0\].op` is `==`, which is not an operator"),
        (condition(index=6), r"args\[0\].index` is 6; arguments are counted from 0 to 5"),
        (condition(value=1 << 64), r"args\[0\].value` is 18446744073709551616, not a number of 64 bits"),
        (condition(value=-1), r"args\[0\].value` is -1"),
        (condition(valueTwo="7"), r"args\[0\].valueTwo` is 7, not a number"),
        ({**ALLOW, "syscalls": ["read"]}, r"`linux.seccomp.syscalls\[0\]` is no object"),
    ],
)
def test_what_is_wrong(described: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ContainerError, match=message):
        seccomp_rules.read(described, architecture="x86_64")


def test_errno_defaults_to_eperm() -> None:
    policy = seccomp_rules.read({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}, architecture="x86_64")
    assert policy.default == 0x00050026
    assert seccomp_rules.read(rule(), architecture="x86_64").rules[0].action == 0x00050001
    assert seccomp_rules.read(rule(errnoRet=0), architecture="x86_64").rules[0].action == 0x00050000


def test_abis_are_the_processors_own() -> None:
    every = [*seccomp_rules.ARCHITECTURES]
    for architecture, expected in (("x86_64", ("x86_64", "x32", "x86")), ("aarch64", ("aarch64", "arm"))):
        read = seccomp_rules.read({**ALLOW, "architectures": every}, architecture=architecture)
        assert read.abis == expected
        assert seccomp_rules.read(ALLOW, architecture=architecture).abis == expected[:1]


def test_flags() -> None:
    assert seccomp_rules.flags({}) == 4, "SPEC_ALLOW, as the other runtimes"
    assert seccomp_rules.flags({"flags": []}) == 0
    assert seccomp_rules.flags({"flags": list(seccomp_rules.FLAGS)}) == 0b100111
    with pytest.raises(errors.ContainerError, match="`SECCOMP_FILTER_FLAG_X`, which is not a flag"):
        seccomp_rules.flags({"flags": ["SECCOMP_FILTER_FLAG_X"]})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/a"}, "can't be `SCMP_ACT_NOTIFY`"),
        (rule(action="SCMP_ACT_NOTIFY"), "`linux.seccomp.listenerPath` is missing"),
        (rule(action="SCMP_ACT_NOTIFY", names=["read", "sendmsg"]), "can't notify of `sendmsg`"),
        ({**ALLOW, "listenerMetadata": "x"}, "listenerMetadata` is there without"),
    ],
)
def test_listeners_that_can_not_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ContainerError, match=message):
        seccomp.prepare({"linux": {"seccomp": fields}}, container_id="c", bundle="/b")


def prepared(**fields: Any) -> seccomp.Seal:
    made = seccomp.prepare({"linux": {"seccomp": {**ALLOW, **fields}}}, container_id="c", bundle="/b")
    assert made is not None
    return made


def test_compiled_once_for_each_policy() -> None:
    assert prepared(flags=[]).filter is prepared(flags=[]).filter
    assert prepared(flags=[]).filter is not prepared(syscalls=rule()["syscalls"], flags=[]).filter
    assert seccomp.prepare({"linux": {}}, container_id="c", bundle="/b") is None
    assert seccomp.prepare({"linux": {"seccomp": {"syscalls": []}}}, container_id="c", bundle="/b") is None


def test_the_usual_policy_can_be_had_ready() -> None:
    seccomp.warm()
    before = seccomp._compile.cache_info()
    overlay = bundle.Overlay("/", ("/image",), "/upper", "/work")
    config = json.loads(json.dumps(bundle.build(bundle.Options(args=("true",), rootfs=bundle.Rootfs((overlay,))))))
    assert seccomp.prepare(config, container_id="c", bundle="/b") is not None
    assert seccomp._compile.cache_info().misses == before.misses


def test_flags_that_the_kernel_takes() -> None:
    """TSYNC is about threads, of which there are none, WAIT_KILLABLE_RECV about notifications."""
    every = list(seccomp_rules.FLAGS)
    assert prepared(flags=every).filter.flags == 0b000110
    notifying = rule(action="SCMP_ACT_NOTIFY")["syscalls"]
    assert prepared(flags=every, syscalls=notifying, listenerPath="/a").filter.flags == 0b101110


def test_a_listener_without_notifications_may_be_missing() -> None:
    listener = prepared(listenerPath="/nowhere").listener
    assert listener is not None
    assert not listener["needed"]
