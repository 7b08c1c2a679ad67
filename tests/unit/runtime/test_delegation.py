"""Asking systemd for a cgroup: the words, against a bus that answers as systemd does."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from devenv.linux import dbus
from devenv.runtime import cgroup, delegation
from tests.support import userbus

JOB = "/org/freedesktop/systemd1/job/1"
SCOPE = "devenv-shop_1234.scope"


def removed(job: str, result: str) -> bytes:
    fields = {1: "/org/freedesktop/systemd1", 2: "org.freedesktop.systemd1.Manager", 3: "JobRemoved"}
    return dbus.encode(dbus.SIGNAL, 5, fields, "uoss", (1, job, SCOPE, result))


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """As in a session's scope, whatever this machine has."""
    monkeypatch.setattr(cgroup, "could_be_handed_over", lambda: True)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    yield tmp_path
    cgroup.moved()


def start(_call: dbus.Message) -> tuple[str, tuple[Any, ...]]:
    return "o", (JOB,)


def test_a_scope_is_asked_for_and_waited_for(home: pathlib.Path) -> None:
    with userbus.serving(home, StartTransientUnit=start) as bus:
        bus.after["StartTransientUnit"] = [removed("/another", "failed"), removed(JOB, "done")]
        assert delegation.enter("shop-1234") == ""
    assert [call.member for call in bus.calls] == ["Hello", "AddMatch", "StartTransientUnit"]
    name, mode, properties, auxiliary = bus.calls[-1].body
    assert (name, mode, auxiliary) == (SCOPE, "fail", [])
    values = dict(properties)
    assert values["PIDs"] == dbus.Variant("au", [os.getpid()])
    assert values["Delegate"] == dbus.Variant("b", True)


def test_a_scope_that_is_there_is_joined(home: pathlib.Path) -> None:
    def exists(_call: dbus.Message) -> tuple[str, tuple[Any, ...]]:
        raise dbus.BusError("org.freedesktop.systemd1.UnitExists", "Unit was already loaded")

    with userbus.serving(home, StartTransientUnit=exists) as bus:
        assert delegation.enter("shop-1234") == ""
    assert bus.calls[-1].member == "AttachProcessesToUnit"
    assert bus.calls[-1].body == (SCOPE, "", [os.getpid()])


@pytest.mark.parametrize("result", ["failed", "timeout"])
def test_a_job_that_fails_is_told(home: pathlib.Path, result: str) -> None:
    with userbus.serving(home, StartTransientUnit=start) as bus:
        bus.after["StartTransientUnit"] = [removed(JOB, result)]
        assert result in delegation.enter("shop-1234")


def test_a_refusal_is_told(home: pathlib.Path) -> None:
    def refuse(_call: dbus.Message) -> tuple[str, tuple[Any, ...]]:
        raise dbus.BusError("org.freedesktop.DBus.Error.AccessDenied", "no scopes for you")

    with userbus.serving(home, StartTransientUnit=refuse):
        assert "no scopes for you" in delegation.enter("shop-1234")


def test_without_a_bus_the_fix_is_told(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbus, "session_address", lambda: None)
    assert "dbus-user-session" in delegation.enter("shop-1234")
