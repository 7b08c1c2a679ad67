from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.health import dial
from devenv.image import config as image_config
from devenv.reconcile import convert_health

PLAIN = image_config.ImageConfig()
EXPOSING = image_config.ImageConfig.parse({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}, what="image")
CHECKED = image_config.ImageConfig.parse(
    {"Healthcheck": {"Test": ["CMD", "x"]}, "ExposedPorts": {"80": {}}}, what="image"
)


def listen(*ports: int) -> dict[str, Any]:
    return {"dial": dial.Target("listen", ports).to_json(), "soft": True}


@pytest.mark.parametrize(
    ("service", "image", "expected"),
    [
        ({}, PLAIN, None),
        ({"ports": [{"target": 8000}, {"target": 53, "protocol": "udp"}]}, PLAIN, listen(8000)),
        ({"expose": ["3000", "53/udp", "7000-7002"]}, PLAIN, listen(3000, 7000, 7001, 7002)),
        ({}, EXPOSING, listen(80)),
        # What an image exposes is a promise of its own command, not of a worker's.
        ({"command": ["worker"]}, EXPOSING, None),
        ({"command": ["worker"], "expose": ["80"]}, EXPOSING, listen(80)),
        ({}, CHECKED, {"test": ["CMD", "x"]}),
        ({"healthcheck": {"disable": True}, "ports": [{"target": 1}]}, PLAIN, None),
        ({"ready": "listen", "expose": ["80"]}, PLAIN, {"dial": listen(80)["dial"], "timeout": 5.0}),
        ({"x-devenv": {"ready": {"tcp": 9}}}, CHECKED, {"dial": dial.Target("tcp", (9,)).to_json(), "timeout": 5.0}),
        (
            {"ready": {"http": "/up", "interval": "1m", "restart": True}, "ports": [{"target": 81}]},
            PLAIN,
            {
                "dial": dial.Target("http", (81,), path="/up").to_json(),
                "timeout": 5.0,
                "interval": 60.0,
                "restart": True,
            },
        ),
        ({"ready": {"log": "up", "timeout": "1s", "retries": 9}}, PLAIN, {"log": "up", "timeout": 1.0, "retries": 9}),
        ({"ready": {"exec": ["true"]}}, PLAIN, {"test": ["CMD", "true"]}),
    ],
)
def test_how_it_is_found_out(
    service: dict[str, Any], image: image_config.ImageConfig, expected: dict[str, Any] | None
) -> None:
    assert convert_health.check(service, image) == expected


def test_a_port_is_needed() -> None:
    with pytest.raises(errors.SpecError, match="no port") as raised:
        convert_health.check({"ready": {"http": "/"}}, PLAIN)
    assert raised.value.hint == "ready: {http: {port: PORT}}"
