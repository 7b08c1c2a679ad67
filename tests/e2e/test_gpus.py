"""Devices by their CDI names, as `gpus`, reservations and `devices` ask for them; of a vendor who is made up."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from tests.support import projects, runner

pytestmark = pytest.mark.root

SPEC = """
    name: gpu
    services:
      app:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        environment: {VISIBLE: own}
        WANTS
"""


@pytest.fixture
def cdi(project: projects.Project) -> dict[str, str]:
    """The environment in which the vendor's files are found; JSON and YAML, as both are written."""
    project.write(
        {
            "cdi/gpu.yaml": f"""
                cdiVersion: 0.6.0
                kind: nvidia.com/gpu
                containerEdits:
                  env: [VISIBLE=void]
                  mounts:
                    - {{hostPath: {project.path}/driver, containerPath: /opt/driver}}
                  hooks:
                    - hookName: createContainer
                      path: /bin/sh
                      args: [sh, -c, "echo hooked $(pwd) >rootfs/opt/hooked; cat >>rootfs/opt/hooked"]
                devices:
                  - name: "0"
                    containerEdits: {{deviceNodes: [{{path: /dev/gpu0, hostPath: /dev/null}}]}}
                  - name: "1"
                    containerEdits: {{deviceNodes: [{{path: /dev/gpu1, hostPath: /dev/zero, permissions: r}}]}}
                  - name: all
                    containerEdits:
                      deviceNodes: [{{path: /dev/gpu0, hostPath: /dev/null}}, {{path: /dev/gpu1, hostPath: /dev/zero}}]
            """,
            "cdi/other.json": json.dumps(
                {
                    "cdiVersion": "1.0.0",
                    "kind": "acme.com/radio",
                    "devices": [{"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/full"}]}}],
                }
            ),
            "cdi/broken.yaml": "cdiVersion: 0.6.0\nkind: bad.com/x\ndevices: [{name: a, containerEdits: {what: 1}}]\n",
            "driver/lib.so": "driver 1",
        }
    )
    os.chmod(project, 0o755)
    return {"DEVENV_CDI_SPEC_DIRS": f"/nowhere:{project.path}/cdi"}


ASKING = {
    "gpus: all": "gpu0 gpu1",
    "gpus: [{count: 1}]": "gpu0",
    "gpus: [{driver: nvidia, device_ids: ['1']}]": "gpu1",
    "deploy: {resources: {reservations: {devices: [{driver: cdi, capabilities: [x], device_ids: "
    "['nvidia.com/gpu=1']}]}}}": "gpu1",
    "devices: ['nvidia.com/gpu=0', /dev/full]": "gpu0",
}


@pytest.mark.parametrize("wants", ASKING)
def test_what_is_asked_for_is_there(
    devenv: runner.Devenv, project: projects.Project, cdi: dict[str, str], wants: str
) -> None:
    project.write(SPEC.replace("WANTS", wants))
    devenv("up", "-d", env=cdi)
    assert devenv.inside("app", "cd /dev; ls -d gpu*").split() == ASKING[wants].split()


def test_all_that_a_device_needs_comes_with_it(
    anyone: runner.Devenv, project: projects.Project, cdi: dict[str, str]
) -> None:
    project.write(SPEC.replace("WANTS", "gpus: all"))
    anyone("up", "-d", env=cdi)
    assert anyone.inside("app", "head -c 3 /dev/gpu1 | od -An -tx1").split() == ["00", "00", "00"]
    assert anyone.inside("app", "cat /opt/driver/lib.so; echo $VISIBLE") == "driver 1void"
    hooked = anyone.inside("app", "cat /opt/hooked")
    state = json.loads(hooked.partition("\n")[2])
    assert (state["status"], state["id"][:12]) == ("creating", anyone.ps()["gpu-app-1"]["ID"])
    assert hooked.startswith(f"hooked {state['bundle']}\n")
    assert pathlib.Path(state["bundle"], "config.json").exists()


def test_another_driver_makes_the_container_anew(
    devenv: runner.Devenv, project: projects.Project, cdi: dict[str, str]
) -> None:
    project.write(SPEC.replace("WANTS", "gpus: all"))
    devenv("up", "-d", env=cdi)
    before = devenv.ps()["gpu-app-1"]["ID"]
    devenv("up", "-d", env=cdi)
    assert devenv.ps()["gpu-app-1"]["ID"] == before
    file = project / "cdi/gpu.yaml"
    file.write_text(file.read_text().replace("VISIBLE=void", "VISIBLE=new"))
    devenv("up", "-d", env=cdi)
    assert devenv.inside("app", "echo $VISIBLE") == "new"


@pytest.mark.parametrize(
    ("wants", "said"),
    [
        ("gpus: [{count: 3}]", "3 devices of kind `nvidia.com/gpu` are asked for, and this machine has 2"),
        ("devices: ['acme.com/radio=two']", "there are: one"),
        ("devices: ['bad.com/x=a']", "`what` can't be had here"),
        ("gpus: [{driver: amd}]", "no device `all` of kind `amd.com/gpu`"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    devenv: runner.Devenv, project: projects.Project, cdi: dict[str, str], wants: str, said: str
) -> None:
    project.write(SPEC.replace("WANTS", wants))
    assert said in devenv("up", "-d", env=cdi, code=3).stderr
    assert devenv.ps("-a") == {}


def test_without_any_description_it_is_said_how_to_have_one(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC.replace("WANTS", "gpus: all"))
    assert "nvidia-ctk cdi generate" in devenv("up", "-d", env={"DEVENV_CDI_SPEC_DIRS": "/nowhere"}, code=3).stderr
