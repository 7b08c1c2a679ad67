from __future__ import annotations

import pathlib
import types
from typing import Any

import pytest

from devenv import errors
from devenv.cli import app, bringup, context, inventory, operate, options, run
from devenv.util import identity, paths
from tests.unit.cli import support


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> support.Supervisor:
    fake = support.Supervisor()
    monkeypatch.setattr(operate, "ensure", lambda _: fake)
    return fake


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> context.Loaded:
    where = paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))
    spec = types.SimpleNamespace(services={"web": None, "db": None}, disabled_services=["debug"])
    who = identity.Project(support.PROJECT_ID, "shop", str(tmp_path))
    loaded = context.Loaded(who, where, spec, {"name": "shop"}, ("devenv.yaml",))
    found = context.Found(who, where, ("web", "db"))
    monkeypatch.setattr(context, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(context, "find", lambda _: found)
    containers = [support.container("web-1"), support.container("db-1", "exited")]
    monkeypatch.setattr(inventory, "load", lambda *_: containers)
    monkeypatch.setattr(operate, "is_known", lambda _: True)
    return loaded


STEP = {"resource": "Container shop-web-1", "status": "done", "text": "Started"}


@pytest.mark.parametrize(
    ("argv", "op", "params"),
    [
        (["stop", "-t", "3", "web"], "stop", {"services": ["web"], "timeout": 3.0}),
        (["restart", "--no-deps"], "restart", {"services": [], "timeout": None, "no_deps": True}),
        (["start", "db", "--wait"], "start", {"services": ["db"], "wait": True, "wait_timeout": None}),
        (["start", "--wait-timeout", "1m"], "start", {"services": [], "wait": True, "wait_timeout": 60.0}),
        (["pause"], "pause", {"services": []}),
        (["rm", "-f", "-s", "-v"], "rm", {"services": [], "stop": True, "volumes": True}),
        (
            ["down", "-v", "-t", "1"],
            "down",
            {"services": [], "volumes": True, "remove_orphans": False, "timeout": 1.0, "dry_run": False},
        ),
    ],
)
def test_requests(
    argv: list[str], op: str, params: dict[str, Any], supervisor: support.Supervisor, project: context.Loaded
) -> None:
    assert app.main(argv) == 0
    assert supervisor.asked == [(op, params)]


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (["-d"], {}),
        (["--wait", "web"], {"services": ["web"], "wait": True}),
        (["-d", "--force-recreate", "--no-deps"], {"recreate": "force", "no_deps": True}),
        (
            ["-d", "--no-recreate", "--scale", "web=3", "--scale", "db=0"],
            {"recreate": "never", "scale": {"web": 3, "db": 0}},
        ),
        (["--no-start", "-V", "--remove-orphans"], {"no_start": True, "renew_volumes": True, "remove_orphans": True}),
        (["-d", "--always-recreate-deps", "-t", "2"], {"recreate_deps": True, "timeout": 2.0}),
    ],
)
def test_up_asks_for(
    argv: list[str], changed: dict[str, Any], supervisor: support.Supervisor, project: context.Loaded
) -> None:
    assert app.main(["up", *argv]) == 0
    [(op, params)] = supervisor.asked
    assert op == "up"
    base = bringup.params(options.Globals(), project, bringup.Wishes())
    assert {key: value for key, value in params.items() if value != base[key]} == changed
    assert params["project"] == {"name": "shop"}
    assert params["disabled"] == ["debug"]


def test_events_go_to_stderr_and_the_plan_to_stdout(
    supervisor: support.Supervisor, project: context.Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.answers["up"] = [{"event": STEP}, {"result": {"plan": "create service:web:1\n"}}]
    assert app.main(["--dry-run", "up"]) == 0
    assert supervisor.asked[0][1]["dry_run"] is True
    captured = capsys.readouterr()
    assert captured.out == "create service:web:1\n"
    assert captured.err == " DRY-RUN MODE - Container shop-web-1  Started\n"


def test_what_the_supervisor_refuses_ends_the_command(
    supervisor: support.Supervisor, project: context.Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.answers["up"] = [{"event": STEP}, errors.ImageError("no image `x`", hint="make one")]
    assert app.main(["up", "-d"]) == 4
    assert capsys.readouterr().err.splitlines()[1:] == ["error: no image `x`", "hint: make one"]


@pytest.mark.parametrize("argv", [["stop"], ["kill"], ["rm", "-f"], ["restart"], ["run", "web"], ["exec", "web", "ls"]])
def test_a_dry_run_never_does_it(argv: list[str], supervisor: support.Supervisor, project: context.Loaded) -> None:
    assert app.main(["--dry-run", *argv]) == 2
    assert supervisor.asked == []


def test_nothing_to_do_asks_nobody(supervisor: support.Supervisor, project: context.Loaded) -> None:
    assert app.main(["stop", "db"]) == 0
    assert app.main(["unpause"]) == 0
    assert supervisor.asked == []


def test_unknown_services(
    supervisor: support.Supervisor, project: context.Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["stop", "wbe"]) == 2
    assert "no such service: `wbe`\nhint: did you mean `web`?" in capsys.readouterr().err


def test_rm_asks_only_on_a_terminal(
    supervisor: support.Supervisor, project: context.Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["rm"]) == 2
    assert "`--force` removes without asking" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["web", "=1", "web=", "web=-1", "web=x", "web=²"])
def test_scales_are_checked(text: str) -> None:
    with pytest.raises(errors.UsageError, match="SERVICE=N"):
        operate.scales([text])


def test_environment_of_exec_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "yes")
    monkeypatch.delenv("NOT_HERE", raising=False)
    assert run.environment(["A=1=2", "B=", "FROM_HERE", "NOT_HERE"]) == {"A": "1=2", "B": "", "FROM_HERE": "yes"}
    with pytest.raises(errors.UsageError):
        run.environment(["=x"])
