"""Rules for devices: what cgroup v1 is told, and the account that the program for v2 is made from."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from devenv.runtime import devicerules

READ, WRITE, MKNOD = 2, 4, 1


def rule(**fields: Any) -> dict[str, Any]:
    return {"allow": True, "type": "c", "major": 7, "minor": 8, "access": "rw", **fields}


def test_nothing_is_allowed_but_what_every_container_has() -> None:
    found = devicerules.rules([])
    assert found[0].v1() == ("devices.deny", "a")
    assert ("devices.allow", "c 1:3 rwm") in [each.v1() for each in found]
    allowed, exceptions = devicerules.settle(found)
    assert not allowed
    assert ("c", 7, 8) not in exceptions


def test_everything() -> None:
    found = devicerules.rules([{"allow": True, "access": "rwm"}])
    assert [each.v1() for each in found] == [("devices.deny", "a"), ("devices.allow", "a")]
    assert devicerules.settle(found) == (True, {})


def test_wildcards_and_kinds() -> None:
    assert devicerules.rules([rule(major=-1, minor=None)])[1].v1() == ("devices.allow", "c *:* rw")
    assert [each.kind for each in devicerules.rules([rule(type="a")])[1:3]] == ["b", "c"]
    assert devicerules.rules([rule(type="u")])[1].kind == "c"


@pytest.mark.parametrize("wrong", [{"type": "x"}, {"access": "rwx"}])
def test_nonsense(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no rule"):
        devicerules.rules([rule(**wrong)])


def test_rules_act_in_their_order() -> None:
    _, exceptions = devicerules.settle(devicerules.rules([rule(), rule(allow=False, access="w")]))
    assert exceptions["c", 7, 8] == READ


class Machine:
    """As much of BPF as the programs use, so that what they answer can be asked."""

    def __init__(self, program: bytes) -> None:
        self._lines = [struct.unpack_from("<BBhi", program, at) for at in range(0, len(program), 8)]

    def allows(self, kind: str, major: int, minor: int, access: int) -> bool:
        words = {0: access << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
        registers, at = [0] * 6, 0
        while True:
            code, pair, offset, value = self._lines[at]
            target, source = pair & 15, pair >> 4
            at += 1
            if code == 0x95:
                return bool(registers[0])
            if code == 0x61:
                registers[target] = words[offset]
            elif code == 0xBC:
                registers[target] = registers[source]
            elif code == 0xB4:
                registers[target] = value
            elif code == 0x54:
                registers[target] &= value & 0xFFFFFFFF
            elif code == 0x74:
                registers[target] >>= value
            elif (code == 0x56 and registers[target] != value) or (code == 0x16 and registers[target] == value):
                at += offset


def test_the_program_answers_as_the_rules_say() -> None:
    listed = devicerules.rules([rule(), rule(minor=None, access="m"), rule(type="b", major=8, minor=None, access="r")])
    machine = Machine(devicerules.program(listed))
    assert machine.allows("c", 7, 8, READ | WRITE)
    assert machine.allows("c", 1, 3, READ | WRITE | MKNOD)
    assert machine.allows("b", 8, 99, READ)
    assert not machine.allows("b", 8, 99, READ | WRITE)
    assert not machine.allows("c", 7, 9, READ)
    assert not machine.allows("b", 7, 8, READ)


def test_the_program_of_an_open_cgroup() -> None:
    listed = [*devicerules.rules([{"allow": True, "access": "rwm"}]), devicerules.Rule(False, "c", 7, 8, "w")]
    machine = Machine(devicerules.program(listed))
    assert machine.allows("c", 7, 8, READ)
    assert not machine.allows("c", 7, 8, WRITE)
    assert machine.allows("b", 7, 8, WRITE)
