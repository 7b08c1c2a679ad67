"""Limits as files of both cgroup versions."""

from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.runtime import limits

CASES: list[tuple[dict[str, Any], dict[str, list[tuple[str, str]]], list[tuple[str, str]]]] = [
    ({"pids": {"limit": 5}}, {"pids": [("pids.max", "5")]}, [("pids.max", "5")]),
    ({"pids": {"limit": -1}}, {"pids": [("pids.max", "max")]}, [("pids.max", "max")]),
    (
        {"memory": {"limit": 100, "swap": 150}},
        {"memory": [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "150")]},
        [("memory.max", "100"), ("memory.swap.max", "50")],
    ),
    (
        {"cpu": {"quota": 10, "period": 20}},
        {"cpu": [("cpu.cfs_period_us", "20"), ("cpu.cfs_quota_us", "10")]},
        [("cpu.max", "10 20")],
    ),
    ({"cpu": {"shares": 1024}}, {"cpu": [("cpu.shares", "1024")]}, [("cpu.weight", "39")]),
    ({"cpu": {"cpus": "0-1"}}, {"cpuset": [("cpuset.cpus", "0-1")]}, [("cpuset.cpus", "0-1")]),
    ({"blockIO": {"weight": 10}}, {"blkio": [("blkio.weight", "10")]}, [("io.weight", "1")]),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]}},
        {"blkio": [("blkio.throttle.read_bps_device", "8:0 9")]},
        [("io.max", "8:0 rbps=9")],
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
        {"hugetlb": [("hugetlb.2MB.limit_in_bytes", "4")]},
        [("hugetlb.2MB.max", "4")],
    ),
    ({"network": {"classID": 3}}, {"net_cls": [("net_cls.classid", "3")]}, []),
    (
        {"rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 2}}},
        {"rdma": [("rdma.max", "mlx hca_handle=1 hca_object=2")]},
        [("rdma.max", "mlx hca_handle=1 hca_object=2")],
    ),
    ({}, {}, []),
]


@pytest.mark.parametrize(("given", "one", "two"), CASES)
def test_both_versions(
    given: dict[str, Any], one: dict[str, list[tuple[str, str]]], two: list[tuple[str, str]]
) -> None:
    assert limits.v1(given) == one
    assert limits.v2(given) == two


def test_unified() -> None:
    assert limits.v2({"unified": {"memory.high": "5"}}) == [("memory.high", "5")]
    with pytest.raises(errors.ContainerError, match="cgroup v2"):
        limits.v1({"unified": {"memory.high": "5"}})


@pytest.mark.parametrize("name", ["../memory.max", "cgroup.procs", "memory"])
def test_unified_can_only_set_limits(name: str) -> None:
    with pytest.raises(errors.ContainerError):
        limits.v2({"unified": {name: "1"}})


def test_swap_needs_memory() -> None:
    for memory in ({"swap": 5}, {"limit": 10, "swap": 5}):
        with pytest.raises(errors.ContainerError):
            limits.v2({"memory": memory})


def test_what_is_no_more_is_taken_back() -> None:
    """Nothing of what stays is touched, and what devenv never set is left alone."""
    throttle = {"major": 8, "minor": 0, "rate": 9}
    before = {
        "memory": {"limit": 100, "swap": 200, "reservation": 50},
        "cpu": {"quota": 10, "shares": 512, "cpus": "0"},
        "pids": {"limit": 5},
        "blockIO": {"throttleReadBpsDevice": [throttle, {**throttle, "minor": 1}]},
    }
    after = {
        "memory": {"limit": 100, "swap": 200},
        "pids": {"limit": 5},
        "blockIO": {"throttleReadBpsDevice": [throttle]},
    }
    assert limits.unset_v1(before, after) == {
        "memory": [("memory.soft_limit_in_bytes", "-1")],
        "cpu": [("cpu.cfs_quota_us", "-1"), ("cpu.shares", "1024")],
        "cpuset": [("cpuset.cpus", limits.INHERIT)],
        "blkio": [("blkio.throttle.read_bps_device", "8:1 0")],
    }
    assert limits.unset_v2(before, after) == [
        ("memory.low", "0"),
        ("cpu.max", "max 100000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", limits.INHERIT),
        ("io.max", "8:1 rbps=max"),
    ]
    assert limits.unset_v1(before, before) == {}
    assert limits.unset_v2({}, after) == []
