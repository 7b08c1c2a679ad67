from __future__ import annotations

import json
from typing import Any

import pytest

from devenv import errors
from devenv.image import config


def test_a_whole_config() -> None:
    found = config.ImageConfig.parse(
        {
            "Entrypoint": ["/entry"],
            "Cmd": ["a", "b"],
            "Env": ["A=1", "NOVALUE", "B="],
            "User": "33:33",
            "WorkingDir": "/srv",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Volumes": {"/data": {}},
            "Labels": {"a": "b"},
            "StopSignal": "SIGQUIT",
            "Shell": ["/bin/bash", "-c"],
            "Healthcheck": {
                "Test": ["CMD", "true"],
                "Interval": 1_500_000_000,
                "Timeout": 30_000_000_000,
                "StartPeriod": 0,
                "Retries": 3,
            },
            "OnBuild": None,
            "Unknown": 3,
        },
        what="image `x`",
    )
    assert found == config.ImageConfig(
        entrypoint=("/entry",),
        cmd=("a", "b"),
        env=("A=1", "B="),
        user="33:33",
        working_dir="/srv",
        exposed_ports=("80/tcp", "53/udp"),
        volumes=("/data",),
        labels={"a": "b"},
        stop_signal="SIGQUIT",
        shell=("/bin/bash", "-c"),
        healthcheck={"test": ["CMD", "true"], "interval": 1.5, "timeout": 30.0, "retries": 3},
    )
    assert config.ImageConfig.from_json(json.loads(json.dumps(found.to_json()))) == found


NAMES = (
    "Entrypoint", "Cmd", "Env", "User", "WorkingDir", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Shell",
    "Healthcheck",
)  # fmt: skip


@pytest.mark.parametrize("given", [None, {}, dict.fromkeys(NAMES)])
def test_nothing_said(given: Any) -> None:
    assert config.ImageConfig.parse(given, what="image `x`") == config.ImageConfig()


def test_a_list_of_ports_is_accepted() -> None:
    assert config.ImageConfig.parse({"ExposedPorts": ["80/tcp"]}, what="image `x`").exposed_ports == ("80/tcp",)


@pytest.mark.parametrize(
    "given",
    [
        [],
        "x",
        {"Cmd": "sh"},
        {"Cmd": [1]},
        {"Entrypoint": {"a": 1}},
        {"Env": ["=x"]},
        {"Env": {"A": "1"}},
        {"User": 0},
        {"User": ["root"]},
        {"User": "ro\0ot"},
        {"Cmd": ["a\0b"]},
        {"Labels": {"a": 1}},
        {"Labels": []},
        {"Volumes": "x"},
        {"Healthcheck": []},
        {"Healthcheck": {"Interval": "5s"}},
        {"Healthcheck": {"Retries": -1}},
        {"Healthcheck": {"Retries": True}},
        {"Healthcheck": {"Test": "true"}},
    ],
)
def test_wrong_types_are_refused(given: Any) -> None:
    with pytest.raises(errors.ImageError, match="image `x` has a broken config"):
        config.ImageConfig.parse(given, what="image `x`")
