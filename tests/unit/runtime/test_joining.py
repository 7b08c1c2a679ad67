from __future__ import annotations

import json

from devenv.runtime import joining

CONFIG = {
    "process": {
        "args": ["x"],
        "env": ["PATH=/bin", "A=0"],
        "cwd": "/srv",
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
        "noNewPrivileges": True,
    },
    "annotations": {"dev.devenv.user": "app", "dev.devenv.groups": json.dumps(["44", "tty"])},
}


def test_without_wishes_it_is_as_the_service() -> None:
    found = joining.describe(CONFIG, ["ls"], env={"A": "1"})
    assert found["args"] == ["ls"]
    assert found["env"] == ["PATH=/bin", "A=1"]
    assert found["cwd"] == "/srv"
    assert found["user"] == "app"
    assert found["groups"] == ["44", "tty"]
    assert found["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert found["noNewPrivileges"] is True
    assert found["terminal"] is False
    assert CONFIG["process"]["args"] == ["x"]


def test_with_wishes() -> None:
    found = joining.describe(CONFIG, ["ls"], user="1000:1000", workdir="sub", privileged=True, tty=True)
    assert found["user"] == "1000:1000"
    assert found["cwd"] == "/srv/sub"
    assert "CAP_SYS_ADMIN" in found["capabilities"]["effective"]
    assert found["noNewPrivileges"] is False
    assert any(text.startswith("TERM=") for text in found["env"])


def test_a_foreign_bundle_has_a_numeric_user() -> None:
    assert joining.describe({"process": {"user": {"uid": 33, "gid": 7}}}, ["ls"])["user"] == "33:7"
