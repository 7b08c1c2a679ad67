"""`device_cgroup_rules`: device nodes that a service may make itself."""

from __future__ import annotations

import os

import pytest

from tests.support import machine, projects, runner

PROJECT = """
    name: nodes
    services:
      allowed:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        device_cgroup_rules: ["c 10:* rw"]
      plain:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
"""
TRY = "mknod /dev/own c 10 229 && exec 3<> /dev/own && echo opened"


@pytest.mark.root
@machine.needs_root
def test_a_node_that_a_rule_allows(devenv: runner.Devenv, project: projects.Project) -> None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError:
        pytest.skip("needs hardware: /dev/fuse, to try with")
    project.write(PROJECT)
    assert "device_cgroup_rules" not in devenv("up", "-d").stderr
    assert devenv.inside("allowed", TRY) == "opened"
    # Where there is no cgroup for devices, nothing could be refused either.
    if machine.cgroup_version():
        assert devenv("exec", "-T", "plain", "sh", "-c", TRY, code=None).stdout == ""


def test_a_rule_that_is_none(devenv: runner.Devenv, project: projects.Project) -> None:
    for rule in ("c 10 rw", "d 1:1 r", "c 1:1 x", "c 1:1"):
        project.write(PROJECT.replace("c 10:* rw", rule))
        assert "is not of the form" in devenv("up", "-d", code=2).stderr


def test_without_root_it_is_said(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT)
    told = anyone("up", "-d").stderr
    assert ("`device_cgroup_rules` need root" in told) == bool(anyone.user)
