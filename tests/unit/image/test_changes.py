from __future__ import annotations

import pytest

from devenv import errors
from devenv.image import changes

BASE = {"Env": ["A=1"], "Cmd": ["base"], "WorkingDir": "/srv", "Labels": {"x": "1"}, "ExposedPorts": {"1/tcp": {}}}


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ('CMD ["a", "b c"]', "Cmd", ["a", "b c"]),
        ("cmd a b", "Cmd", ["/bin/sh", "-c", "a b"]),
        ('ENTRYPOINT ["x"]', "Entrypoint", ["x"]),
        ("ENV A=2 B='c d'", "Env", ["A=2", "B=c d"]),
        ("ENV B a value", "Env", ["A=1", "B=a value"]),
        ("EXPOSE 80 90/udp", "ExposedPorts", {"1/tcp": {}, "80/tcp": {}, "90/udp": {}}),
        ('LABEL "y"="2"', "Labels", {"x": "1", "y": "2"}),
        ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
        ("USER app:app", "User", "app:app"),
        ('VOLUME ["/a", "/b"]', "Volumes", {"/a": {}, "/b": {}}),
        ("WORKDIR app", "WorkingDir", "/srv/app"),
        ("WORKDIR /x", "WorkingDir", "/x"),
        ("ONBUILD RUN x", "OnBuild", ["RUN x"]),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        (
            "HEALTHCHECK --interval=1m30s --retries=2 CMD test -e /x",
            "Healthcheck",
            {"Test": ["CMD-SHELL", "test -e /x"], "Interval": 90 * 10**9, "Retries": 2},
        ),
    ],
)
def test_each_instruction(given: str, key: str, value: object) -> None:
    config = dict(BASE)
    changes.apply(config, [given])
    assert config[key] == value
    assert BASE["Env"] == ["A=1"]


def test_an_entrypoint_takes_the_command_of_the_base_away() -> None:
    config = dict(BASE)
    changes.apply(config, ['ENTRYPOINT ["x"]', 'CMD ["y"]'])
    assert (config["Entrypoint"], config["Cmd"]) == (["x"], ["y"])
    config = dict(BASE)
    changes.apply(config, ['ENTRYPOINT ["x"]'])
    assert "Cmd" not in config


@pytest.mark.parametrize(
    "given", ["RUN x", "CMD", "ENV A", "ENV A=1 B", "EXPOSE x", "HEALTHCHECK x", "HEALTHCHECK --interval=1x CMD a", ""]
)
def test_what_makes_no_sense(given: str) -> None:
    with pytest.raises(errors.UsageError):
        changes.apply({}, [given])
