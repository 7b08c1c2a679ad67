"""The D-Bus client: its encoding against bytes that libdbus wrote, its conversation against a bus on a socket."""

from __future__ import annotations

import os
import pathlib
import struct
import subprocess
from typing import Any

import pytest

from devenv.linux import dbus
from tests.support import machine, userbus


def call(bus: dbus.Bus, member: str, *rest: Any) -> tuple[Any, ...]:
    return bus.call("org.example", "/org/example", "org.example.Thing", member, *rest)


def nested(depth: int) -> dbus.Variant:
    value = dbus.Variant("y", 1)
    for _ in range(depth):
        value = dbus.Variant("v", value)
    return value


def test_a_call_is_encoded_as_the_specification_has_it() -> None:
    data = dbus.encode(dbus.METHOD_CALL, 7, {1: "/a", 3: "Do"}, "su", ("hi", 5))
    body = b"\x02\0\0\0hi\0\0\x05\0\0\0"
    fields = b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0" + b"\x03\x01s\0\x02\0\0\0Do\0\0\0\0\0\0" + b"\x08\x01g\0\x02su\0"
    assert data == b"l\x01\0\x01" + struct.pack("<III", len(body), 7, len(fields)) + fields + body


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("y", 255),
        ("b", True),
        ("n", -3),
        ("q", 65535),
        ("i", -(1 << 31)),
        ("u", (1 << 32) - 1),
        ("x", -(1 << 63)),
        ("t", (1 << 64) - 1),
        ("d", 0.25),
        ("s", "smørrebrød"),
        ("o", "/org/example"),
        ("g", "a{sv}"),
        ("as", []),
        ("ay", [1, 2, 3]),
        ("ax", [1 << 40]),
        ("aas", [["a"], [], ["b", "c"]]),
        ("(ysb)", (1, "x", False)),
        ("a{sv}", {"one": dbus.Variant("u", 1), "list": dbus.Variant("as", ["x", "y"])}),
        ("a(sa(sv))", [("unit", [("Delegate", dbus.Variant("b", True))])]),
        ("v", dbus.Variant("v", dbus.Variant("(it)", (-1, 2)))),
    ],
)
def test_every_type_is_read_as_it_was_written(signature: str, value: Any) -> None:
    # A byte before it, so that it has to be aligned.
    message = dbus.decode(dbus.encode(dbus.SIGNAL, 1, {1: "/", 2: "a.b", 3: "C"}, f"y{signature}", (9, value)))
    assert message.body == (9, value)


def test_the_other_byte_order_is_read() -> None:
    fields = b"\x05\x01u\0\0\0\0\x07\x08\x01g\0\x01u\0"
    data = b"B\x02\0\x01" + struct.pack(">III", 4, 1, len(fields)) + fields + bytes(-len(fields) % 8) + b"\0\0\1\0"
    assert dbus.size_of(data) == len(data)
    assert dbus.decode(data).body == (256,)


@pytest.mark.parametrize(
    "data",
    [
        b"?" + bytes(15),
        b"l\x01\0\x01" + struct.pack("<III", 1 << 28, 1, 0),
        dbus.encode(dbus.SIGNAL, 1, {1: "/"}, "as", (["x"],))[:-3],
        dbus.encode(dbus.SIGNAL, 1, {1: "/"}, "y", (1,)).replace(b"\x01y\0", b"\x01(\0"),
        dbus.encode(dbus.SIGNAL, 1, {1: "/"}, "v", (nested(70),)),
    ],
    ids=["order", "size", "cut", "signature", "depth"],
)
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(OSError, match="no message"):
        dbus.size_of(data) and dbus.decode(data)


def test_a_call_waits_for_its_own_answer_and_keeps_signals(tmp_path: pathlib.Path) -> None:
    signal = dbus.encode(dbus.SIGNAL, 9, {1: "/", 2: "org.example.Thing", 3: "Done"}, "s", ("first",))
    with userbus.serving(tmp_path, Add=lambda message: ("i", (sum(message.body[0]),))) as server:
        server.after["Hello"] = [signal]
        with dbus.Bus(f"{tmp_path}/bus") as bus:
            assert call(bus, "Add", "ai", [1, 2, -7]) == (-4,)
            assert next(bus.signals()).body == ("first",)
    assert [each.member for each in server.calls] == ["Hello", "Add"]


def test_a_refusal_has_the_buses_words(tmp_path: pathlib.Path) -> None:
    def refuse(_message: dbus.Message) -> tuple[str, tuple[Any, ...]]:
        raise dbus.BusError("org.example.Error.No", "not today")

    with userbus.serving(tmp_path, Ask=refuse), dbus.Bus(f"{tmp_path}/bus") as bus:
        with pytest.raises(dbus.BusError, match="not today") as caught:
            call(bus, "Ask")
        assert caught.value.name == "org.example.Error.No"


def test_a_signal_that_never_comes_is_not_waited_for_long(tmp_path: pathlib.Path) -> None:
    with (
        userbus.serving(tmp_path),
        dbus.Bus(f"{tmp_path}/bus", seconds=0.1) as bus,
        pytest.raises(TimeoutError),
    ):
        next(bus.signals())


def test_the_address_is_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "tcp:host=x;unix:path=/run/somewhere,guid=1")
    assert dbus.session_address() == "/run/somewhere"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/tmp/dbus-x")
    assert dbus.session_address() == "\0/tmp/dbus-x"
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "bus").touch()
    assert dbus.session_address() == f"{tmp_path}/bus"
    os.unlink(tmp_path / "bus")
    assert dbus.session_address() != f"{tmp_path}/bus"


@machine.needs_binary("dbus-daemon")
def test_the_real_bus_understands_and_is_understood(tmp_path: pathlib.Path) -> None:
    address = f"unix:path={tmp_path}/bus"
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        try:
            with dbus.Bus(f"{tmp_path}/bus") as bus:
                standard = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
                [names] = bus.call(*standard, "ListNames")
                assert "org.freedesktop.DBus" in names
                assert next(bus.signals()).member == "NameAcquired"
                [values] = bus.call(*standard, "GetConnectionCredentials", "s", names[-1])
                assert values["UnixUserID"] == dbus.Variant("u", os.getuid())
                with pytest.raises(dbus.BusError) as caught:
                    bus.call(*standard, "Nonsense", "a(sa(sv))", [("x", [("y", dbus.Variant("b", True))])])
                assert caught.value.name == "org.freedesktop.DBus.Error.UnknownMethod"
        finally:
            daemon.terminate()
