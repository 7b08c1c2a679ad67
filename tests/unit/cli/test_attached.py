from __future__ import annotations

import pathlib
import signal
import types
from typing import Any

import pytest

from devenv.cli import attached, bringup, context, inventory, operate, options
from devenv.util import identity, paths
from tests.unit.cli import support

DIE = "die"


@pytest.mark.parametrize(
    ("service", "wishes", "manner", "by_default", "shown"),
    [
        ("db", {}, {}, True, True),
        ("db", {}, {}, False, False),
        ("db", {"services": ("web",)}, {}, True, False),
        ("db", {"services": ("web",)}, {"dependencies": True}, True, True),
        ("db", {}, {"no_attach": frozenset({"db"})}, True, False),
        ("db", {"services": ("web",)}, {"attach": frozenset({"db"})}, False, True),
        ("web", {"services": ("web",)}, {"attach": frozenset({"db"})}, True, False),
    ],
)
def test_whose_logs_are_shown(
    service: str, wishes: dict[str, Any], manner: dict[str, Any], by_default: bool, shown: bool
) -> None:
    found = attached.shows(service, bringup.Wishes(**wishes), attached.Manner(**manner), by_default=by_default)
    assert found is shown


class Scene:
    """A project of `db` and `web`, whose containers the test changes as it goes."""

    def __init__(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folders = {
            "web-1": support.write_log(tmp_path / "web", "stdout hello", "stderr oops"),
            "db-1": support.write_log(tmp_path / "db", "stdout ready"),
        }
        self.states: dict[str, dict[str, Any]] = {"db-1": {"state": "running"}, "web-1": {"state": "running"}}
        up = {"containers": [{"id": item.record.id, "service": item.record.service} for item in self.containers()]}
        self.supervisor = support.Supervisor(up=[{"result": up}], subscribe=[{"subscribed": True}])
        monkeypatch.setattr(inventory, "load", lambda *_: self.containers())
        monkeypatch.setattr(operate, "ensure", lambda _: self.supervisor)
        where = paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))
        spec = types.SimpleNamespace(services={"db": None, "web": None}, disabled_services=[])
        project = identity.Project(support.PROJECT_ID, "shop", str(tmp_path))
        self.project = context.Loaded(project, where, spec, {"name": "shop"}, ())

    def containers(self) -> list[inventory.Container]:
        return [support.container(name, folder=self.folders[name], **values) for name, values in self.states.items()]

    def ends(self, name: str, code: int, state: str = "exited") -> Any:
        """A step of the script: the container has ended, and the supervisor says so."""

        def step() -> None:
            self.states[name] = {"state": state, "exit_code": code, "finished": 4e9}

        return step

    def dies(self, name: str, code: int) -> dict[str, Any]:
        service = name.rpartition("-")[0]
        [item] = [item for item in self.containers() if item.record.service == service]
        return {"container": {"id": item.record.id, "service": service, "action": DIE, "exit_code": code}}

    def run(self, **manner: Any) -> int:
        given = options.Globals(progress=options.Progress.QUIET, ansi=options.Ansi.NEVER)
        return attached.run(given, self.project, bringup.Wishes(), attached.Manner(**manner))

    def asked(self) -> list[str]:
        return [op for op, _ in self.supervisor.asked]


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_until_all_have_ended(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.supervisor.answers["subscribe"] += [
        scene.ends("web-1", 3),
        scene.dies("web-1", 3),
        scene.ends("db-1", 0),
        scene.dies("db-1", 0),
    ]
    assert scene.run() == 0
    captured = capfd.readouterr()
    assert sorted(captured.out.splitlines()) == ["db-1   | ready", "web-1  | hello"]
    lines = captured.err.splitlines()
    assert lines[0] == "Attaching to db-1, web-1"
    assert "web-1  | oops" in lines
    assert lines.index("web-1 exited with code 3") < lines.index("db-1 exited with code 0")
    assert scene.asked() == ["up", "subscribe"]


def test_a_restart_is_no_end(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.supervisor.answers["subscribe"] += [
        scene.ends("web-1", 1, state="restarting"),
        scene.dies("web-1", 1),
        scene.ends("web-1", 0),
        scene.ends("db-1", 0),
        scene.dies("db-1", 0),
    ]
    assert scene.run() == 0
    assert "web-1 exited with code 1 (restarting)" in capfd.readouterr().err


def test_abort_when_one_ends(scene: Scene) -> None:
    scene.supervisor.answers["subscribe"] += [scene.ends("web-1", 3), scene.dies("web-1", 3)]
    assert scene.run(abort="exit") == 3
    assert scene.supervisor.asked[-1] == ("stop", {"services": ["db", "web"], "timeout": None})


def test_abort_only_on_failure(scene: Scene) -> None:
    scene.supervisor.answers["subscribe"] += [
        scene.ends("db-1", 0),
        scene.dies("db-1", 0),
        scene.ends("web-1", 2),
        scene.dies("web-1", 2),
    ]
    assert scene.run(abort="failure") == 0 or scene.asked()[-1] == "stop"


def test_exit_code_from(scene: Scene) -> None:
    scene.supervisor.answers["stop"] = [scene.ends("db-1", 143), {"result": None}]
    scene.supervisor.answers["subscribe"] += [scene.ends("web-1", 3), scene.dies("web-1", 3)]
    assert scene.run(abort="exit", exit_code_from="db") == 143


def test_a_dead_supervisor_is_brought_back(scene: Scene) -> None:
    from devenv import errors

    calls = iter(
        [[{"subscribed": True}, errors.SupervisorError("gone")], [scene.ends("db-1", 0), {"subscribed": True}]]
    )
    scene.states["web-1"] = {"state": "exited", "exit_code": 0, "finished": 1.0}
    original = scene.supervisor.call

    def call(op: str, params: dict[str, Any] | None = None) -> Any:
        if op == "subscribe":
            scene.supervisor.answers["subscribe"] = next(calls)
        return original(op, params)

    scene.supervisor.call = call  # type: ignore[method-assign]
    assert scene.run() == 0
    assert scene.asked() == ["up", "subscribe", "subscribe"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_gently(scene: Scene, number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    scene.supervisor.answers["subscribe"] += [lambda: signal.raise_signal(number)]
    assert scene.run() == 130
    assert scene.asked() == ["up", "subscribe", "stop"]
    assert "press Ctrl+C again to kill" in capfd.readouterr().err
    assert signal.getsignal(number) is before


def test_a_second_interrupt_kills(scene: Scene) -> None:
    scene.supervisor.answers["subscribe"] += [lambda: signal.raise_signal(signal.SIGINT)]
    scene.supervisor.answers["stop"] = [lambda: signal.raise_signal(signal.SIGINT)]
    assert scene.run() == 130
    assert scene.supervisor.asked[-1] == ("kill", {"services": ["db", "web"], "signal": "SIGKILL"})


def test_an_interrupt_while_it_comes_up(scene: Scene) -> None:
    scene.supervisor.answers["up"] = [lambda: signal.raise_signal(signal.SIGINT)]
    assert scene.run() == 130
    assert scene.asked() == ["up", "stop"]


def test_a_reader_that_goes_away_is_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(attached.logview.Printer, "line", broken)
    scene.supervisor.answers["subscribe"] += [signal.pause]
    assert scene.run() == 141
    # It may be so quick that it isn't waited for at all.
    assert scene.asked() in (["up", "subscribe", "stop"], ["up", "stop"])
