"""What systemd is told of a container's limits and devices."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devenv import errors
from devenv.linux import dbus
from devenv.runtime import devicerules, systemd

NO_LIMIT = 2**64 - 1


def told(given: dict[str, Any], version: int) -> dict[str, Any]:
    return {name: variant.value for name, variant in systemd.limits(given, version=version)}


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        ({}, 2, {}),
        ({"memory": {"limit": 1000}}, 1, {"MemoryLimit": 1000}),
        (
            {"memory": {"limit": 1000, "swap": 1500, "reservation": 500}},
            2,
            {"MemoryMax": 1000, "MemorySwapMax": 500, "MemoryLow": 500},
        ),
        ({"memory": {"limit": -1, "swap": -1}}, 2, {"MemoryMax": NO_LIMIT, "MemorySwapMax": NO_LIMIT}),
        ({"cpu": {"shares": 1024}}, 1, {"CPUShares": 1024}),
        ({"cpu": {"shares": 2}}, 2, {"CPUWeight": 1}),
        (
            {"cpu": {"quota": 50000, "period": 100000}},
            2,
            {"CPUQuotaPerSecUSec": 500000, "CPUQuotaPeriodUSec": 100000},
        ),
        ({"cpu": {"quota": 1234}}, 1, {"CPUQuotaPerSecUSec": 20000}),
        ({"cpu": {"quota": -1}}, 2, {"CPUQuotaPerSecUSec": NO_LIMIT}),
        ({"cpu": {"cpus": "0-2,9"}}, 2, {"AllowedCPUs": [0b111, 0b10]}),
        ({"cpu": {"cpus": "0-2,9"}}, 1, {}),
        ({"pids": {"limit": 20}}, 1, {"TasksMax": 20}),
        ({"pids": {"limit": -1}}, 2, {"TasksMax": NO_LIMIT}),
        ({"pids": {"limit": 0}}, 2, {"TasksMax": 1}),
        ({"blockIO": {"weight": 1000}}, 2, {"IOWeight": 10000}),
        ({"blockIO": {"weight": 1000}}, 1, {"BlockIOWeight": 1000}),
    ],
)
def test_limits(given: dict[str, Any], version: int, expected: dict[str, Any]) -> None:
    assert told(given, version) == expected


def test_devices() -> None:
    rules = devicerules.rules([{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}])
    found = {name: variant.value for name, variant in systemd.devices(rules)}
    assert found["DevicePolicy"] == "strict"
    assert {("/dev/char/10:229", "rw"), ("/dev/char/1:3", "rwm"), ("char-*", "m")} <= set(found["DeviceAllow"])
    # The host's own name for all of a kind.
    assert ("char-pts", "rwm") in found["DeviceAllow"]


def test_every_device() -> None:
    found = dict(systemd.devices(devicerules.rules([{"allow": True, "access": "rwm"}])))
    assert found["DevicePolicy"] == dbus.Variant("s", "auto")


def test_without_systemd_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(errors.HostError, match="the system's systemd can't be asked") as raised:
        systemd.connect(user=False)
    assert "cgroupfs" in str(raised.value.hint)
