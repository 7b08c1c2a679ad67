"""What an image's config comes to beside what the service says, as Docker has it."""

from __future__ import annotations

from typing import Any

import pytest

from devenv.image import config as image_config
from devenv.reconcile import convert, convert_health


def image(**config: Any) -> image_config.ImageConfig:
    return image_config.ImageConfig.parse({"Cmd": ["run"], **config}, what="x")


def env(given: image_config.ImageConfig, **service: Any) -> dict[str, str]:
    found = convert.process({"environment": service}, given, hostname="box").env
    return dict(each.partition("=")[::2] for each in found)


def test_an_image_may_change_what_docker_sets() -> None:
    assert env(image())["HOSTNAME"] == "box"
    # Next.js listens on what HOSTNAME says, and its images set it to every address.
    assert env(image(Env=["HOSTNAME=0.0.0.0", "PATH=/x"])) == {"HOSTNAME": "0.0.0.0", "PATH": "/x"}
    assert env(image(Env=["HOSTNAME=0.0.0.0"]), HOSTNAME="mine")["HOSTNAME"] == "mine"
    assert "HOSTNAME" not in env(image(), HOSTNAME=None)


@pytest.mark.parametrize(
    ("config", "service", "args"),
    [
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {}, ("e", "c")),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"command": ["x"]}, ("e", "x")),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"entrypoint": ["x"]}, ("x",)),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"entrypoint": [], "command": ["x"]}, ("x",)),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"entrypoint": ["x"], "command": ["y"]}, ("x", "y")),
    ],
)
def test_what_runs(config: dict[str, Any], service: dict[str, Any], args: tuple[str, ...]) -> None:
    assert convert.process(service, image(**config), hostname="box").args == args


def test_a_health_check_by_the_images_own_shell() -> None:
    given = image(Shell=["/bin/bash", "-ec"], Healthcheck={"Test": ["CMD-SHELL", "a && b"], "Retries": 2})
    assert convert_health.healthcheck({}, given) == {"test": ["CMD", "/bin/bash", "-ec", "a && b"], "retries": 2}
    plain = image(Healthcheck={"Test": ["CMD-SHELL", "a"]})
    assert convert_health.healthcheck({}, plain) == {"test": ["CMD-SHELL", "a"]}
    assert convert_health.healthcheck({"healthcheck": {"retries": 5}}, given)["retries"] == 5  # type: ignore[index]
    assert convert_health.healthcheck({}, image(Healthcheck={"Test": ["NONE"]})) is None


def test_what_is_exposed_by_either() -> None:
    given = image(ExposedPorts={"80/tcp": {}, "53/udp": {}})
    assert convert.exposed({"expose": ["80", "9000-9001"]}, given) == ("80/tcp", "53/udp", "9000/tcp", "9001/tcp")
    assert convert.exposed({"network_mode": "host"}, given) == ()
