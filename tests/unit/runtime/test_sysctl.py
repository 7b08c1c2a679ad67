"""Which kernel settings are a container's own (CVE-2022-0811)."""

from __future__ import annotations

import pytest

from devenv.runtime import sysctl

OWN = {"ipc", "network", "uts", "user"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kernel.shmmax", "ipc"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("kernel.msgmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("net.ipv4.ip_forward", "network"),
        ("net/ipv4/conf/eth0.1/rp_filter", "network"),
        ("kernel.domainname", "uts"),
        ("user.max_user_namespaces", "user"),
    ],
)
def test_of_a_namespace(name: str, kind: str) -> None:
    assert sysctl.refusal(name, "1", OWN) is None
    assert sysctl.refusal(name, "1", OWN - {kind})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.core_pattern", "|/bin/x"),
        ("kernel/core_pattern", "|/bin/x"),
        ("kernel.shmmax.core_pattern", "1"),
        ("kernel.hostname", "x"),
        ("vm.swappiness", "1"),
        ("fs.file-max", "1"),
        ("fs.mqueue", "1"),
        ("netx.ipv4", "1"),
        ("net./../kernel.core_pattern", "x"),
        ("net/../kernel/core_pattern", "x"),
        ("net..core", "1"),
        ("net.", "1"),
        ("", "1"),
        ("net.ipv4.ip_forward", "1\nx"),
        ("net.ipv4.ip_forward", "1+kernel.core_pattern=x\0"),
        ("net.ipv4.ip_forward\n", "1"),
        ("net.ipv4.ip_forward", "1" * 70_000),
        ("net." + "x" * 70_000, "1"),
        ("net.ipv4.ip_forward", None),
        ("net.ipv4.ip_forward", ["1"]),
    ],
)
def test_of_the_host_or_of_nothing(name: str, value: object) -> None:
    refused = sysctl.refusal(name, value, OWN)
    assert refused
    assert len(refused) < 300


@pytest.mark.parametrize("name", ["net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"])
def test_either_separator(name: str) -> None:
    assert sysctl.path(name) == "net/ipv4/conf/eth0.1/rp_filter"
