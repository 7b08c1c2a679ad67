from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from devenv import errors
from devenv.cli import app, commands, options, report

HEAVY = ("pydantic", "networkx", "pyroute2", "yaml", "rich", "watchdog", "asyncio")

VERSION = "import os; from devenv.cli import app; os._exit(app.main(['version']))"


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `devenv version` raise ``error``."""

    def command() -> None:
        raise error

    from devenv.cli import version

    monkeypatch.setattr(version, "command", command)


@pytest.mark.parametrize("argv", [["--help"], ["-h"], []])
def test_help_lists_the_commands(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(argv) == 0
    output = capsys.readouterr().out
    assert "  up " in output
    assert "List containers" in output


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["ps", "--help"], ["up", "--help"], ["bogus"]])
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    code = f"import sys; from devenv.cli import app; app.main({argv!r}); print(' '.join(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = result.stderr.splitlines()[-1].split()
    assert [name for name in HEAVY if name in modules] == []


@pytest.mark.parametrize("name", app.app_names())
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: devenv {name}")


def test_missing_commands_are_not_there() -> None:
    assert not set(commands.MISSING) & set(commands.COMMANDS)


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["pss"], "there is no command `pss`", "did you mean `ps`?"),
        (["xyzzy"], "there is no command `xyzzy`", "`devenv --help` lists the commands"),
        (["publish"], "`devenv publish` is not built yet", ""),
        (["build", "."], "`.` is no service", "devenv image build ."),
        (["image", "build", "--call", "x"], "`--call x` is not understood", ""),
        (["image", "build", "--allow", "x", "/"], "`--allow x` is not understood", ""),
        (["ps", "--profile", "x"], "`devenv ps` has no option `--profile`", "`devenv --profile … ps`"),
        (["up", "--detatch"], "`devenv up` has no option `--detatch`", "did you mean `--detach`?"),
        (["--progress", "no", "ps"], "invalid value for '--progress'", "`devenv --help`"),
        (["version", "x"], "unexpected extra argument", "`devenv version --help`"),
        (["up", "--force-recreate", "--no-recreate"], "`--force-recreate` and `--no-recreate`", ""),
        (["up", "-d", "--abort-on-container-exit"], "exclude each other", ""),
        (["ls", "--format", "{{.Name}}"], "`--format {{.Name}}`", "`--format json`"),
        (["ps", "--filter", "name=x"], "`--filter name=x`", "status=STATE"),
        (["logs", "--tail", "x"], "`--tail x`", "all"),
        (["logs", "--since", "soon"], "`soon` is not a time", "10m"),
        (["stop", "-t", "soon"], "`--timeout soon`", "10"),
    ],
)
def test_usage_errors(argv: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert hint in captured.err
    assert captured.err.startswith("error: ")


def test_progress_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPOSE_PROGRESS", "fancy")
    assert app.main(["version"]) == 2
    assert "COMPOSE_PROGRESS is `fancy`" in capsys.readouterr().err
    monkeypatch.setenv("COMPOSE_PROGRESS", "json")
    fail(monkeypatch, errors.UsageError("no", hint="yes"))
    assert app.main(["version"]) == 2
    assert capsys.readouterr().err == '{"error": true, "code": "usage", "message": "no", "hint": "yes"}\n'


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HostError("x"), 3),
        (errors.ImageError("x"), 4),
        (errors.ContainerError("x"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (SystemExit(7), 7),
        (RuntimeError("oops\x1b"), 70),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    fail(monkeypatch, error)
    assert app.main(["version"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_leaves_its_traceback_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    fail(monkeypatch, RuntimeError("oops\x1b[2J\nsecond line"))
    assert app.main(["version"]) == 70
    message = capsys.readouterr().err
    assert message.startswith("error: internal error in devenv: RuntimeError: oops^[[2J; details are in `")
    [crash] = (tmp_path / "run" / "log").iterdir()
    assert str(crash) in message
    assert "Traceback" in crash.read_text()
    assert app.main(["--debug", "version"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_spec_errors_show_the_place() -> None:
    error = errors.SpecError(
        "unknown attribute `imgae`",
        file="devenv.yaml",
        line=12,
        column=5,
        excerpt="    imgae: x\x1b",
        hint="did you mean `image`?",
    )
    assert report.render(error) == (
        "error: unknown attribute `imgae`\n"
        "  --> devenv.yaml:12:5\n"
        "    |\n"
        " 12 |     imgae: x^[\n"
        "    |     ^\n"
        "hint: did you mean `image`?"
    )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_descriptors(closed: tuple[int, ...]) -> None:
    code = f"import os\nfor n in {closed!r}: os.close(n)\n{VERSION}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("" if 1 in closed else "devenv version")


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", VERSION], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert "can't write the output: No space left on device" in result.stderr


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        result = subprocess.run(
            [sys.executable, "-c", VERSION], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 141
    assert result.stderr == ""


def test_globals_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPOSE_PROGRESS", raising=False)
    argv = ["-f", "a", "-f", "b", "-p", "n", "--project-directory", "d", "--profile", "x", "--profile", "y"]
    argv += ["--env-file", "e", "--parallel", "3", "--progress", "plain", "--ansi", "never", "--dry-run"]
    argv += ["--all-resources", "--compatibility", "--debug", "version"]
    assert app.main(argv) == 0
    assert report.settings == options.Globals(
        files=("a", "b"),
        project_name="n",
        project_directory="d",
        profiles=("x", "y"),
        env_files=("e",),
        parallel=3,
        progress=options.Progress.PLAIN,
        ansi=options.Ansi.NEVER,
        dry_run=True,
        all_resources=True,
        compatibility=True,
        debug=True,
    )
