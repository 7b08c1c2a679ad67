"""Limits that only some kernels have: which are left out, and why."""

from __future__ import annotations

import pytest

from devenv.runtime import offered, resources

LIMITS = resources.Resources(
    memory=1 << 30,
    memory_swap=2 << 30,
    memory_swappiness=0,
    oom_kill_disable=True,
    nano_cpus=10**9,
    block_io={"weight": 300, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]},
)


def lacking(version: int, *files: str) -> dict[str, str]:
    wanted = [each for each in offered._LIMITS if offered._given(LIMITS, each)]
    return {each.attribute: why for each, why in offered._lacking(wanted, files, version).items()}


def test_a_kernel_without_weights_and_without_accounting_of_swap() -> None:
    files = ("cpu.cfs_quota_us", "memory.swappiness", "memory.oom_control", "blkio.throttle.read_bps_device")
    assert lacking(1, *files) == {
        "memswap_limit": "on this kernel, which has no `memory.memsw.limit_in_bytes`",
        "blkio_config: weight": "on this kernel, which has no `blkio.weight`",
    }
    assert "blkio_config: weight" not in lacking(1, *files, "blkio.bfq.weight")


def test_what_cgroup_v2_has_no_word_for() -> None:
    assert lacking(2, "cpu.max", "memory.swap.max", "io.weight", "io.max") == {
        "mem_swappiness": "with cgroup v2",
        "oom_kill_disable": "with cgroup v2",
    }


@pytest.mark.parametrize(
    "limit", [each for each in offered._LIMITS if offered._given(LIMITS, each)], ids=lambda x: x[0]
)
def test_what_is_left_out_is_out_and_all_else_stays(limit: offered.Limit) -> None:
    left = offered.without(LIMITS, [limit])
    assert not offered._given(left, limit)
    others = [each for each in offered._LIMITS if offered._given(LIMITS, each) and each != limit]
    assert all(offered._given(left, each) for each in others)
    assert left.memory == LIMITS.memory
