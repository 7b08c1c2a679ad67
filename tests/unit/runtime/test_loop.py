from __future__ import annotations

import os

import pytest

from devenv.runtime import loop as loops
from devenv.runtime import respawn


@pytest.fixture
def loop():
    made = loops.Loop()
    yield made
    made.close()


def test_timers_fire_in_order_and_can_be_cancelled(loop: loops.Loop) -> None:
    seen: list[int] = []
    loop.later(0.002, lambda: seen.append(2))
    loop.later(0.001, lambda: seen.append(1))
    loop.later(0, lambda: seen.append(9)).cancel()
    loop.later(0.003, loop.stop)
    loop.run()
    assert seen == [1, 2]


def test_a_mistake_costs_one_event(loop: loops.Loop, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    seen: list[int] = []

    def broken(mask: int) -> None:
        seen.append(mask)
        os.read(reader, 1)
        raise RuntimeError("mistake")

    loop.add(reader, loops.READ, broken)
    for _ in range(2):
        os.write(writer, b"x")
        loop.turn(1)
    assert len(seen) == 2
    assert "RuntimeError: mistake" in capsys.readouterr().err
    loop.remove(reader)
    loop.remove(reader)
    os.close(reader)
    os.close(writer)


class FakeLoop:
    def __init__(self) -> None:
        self.delays: list[float] = []
        self.due = None

    def later(self, seconds: float, callback) -> loops.Timer:
        self.delays.append(seconds)
        self.due = loops.Timer(callback)
        return self.due


def test_respawn_backs_off_and_stops_when_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, needed, spawned = FakeLoop(), [True], []
    monkeypatch.setattr(os, "posix_spawn", lambda *args, **options: spawned.append(args[0]) or 1)
    respawner = respawn.Respawner(loop, ["/bin/s"], log="/dev/null", needed=lambda: needed[0])  # type: ignore[arg-type]
    respawner.greeted()
    respawner.gone(said_bye=False)
    for _ in range(8):
        loop.due.callback()
    assert loop.delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert len(spawned) == 8
    respawner.greeted()
    assert loop.due.callback is None
    needed[0] = False
    respawner.gone(said_bye=False)
    assert len(loop.delays) == 9


def test_bye_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = FakeLoop()
    respawner = respawn.Respawner(loop, ["/bin/s"], log="/dev/null", needed=lambda: True)  # type: ignore[arg-type]
    respawner.greeted()
    respawner.gone(said_bye=True)
    assert loop.delays == []
