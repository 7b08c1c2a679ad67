"""``devenv ci``: the whole environment for one command, on a machine where nothing is to be left.

    up --wait ──▶ the command ──▶ logs, states, copies and a report into a folder ──▶ down -v, whatever happened

It is a project of its own, NAME-ci: neither the containers nor the data of the one that somebody works in are touched.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import IO, Annotated, Any

import typer

from devenv import errors
from devenv.cli import again, context, formats, junit, options, terminal
from devenv.spec import taskforms
from devenv.util import terminals

_TAIL = 4000  # characters of a failure's output in the report
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def command(
    ctx: typer.Context,
    *,
    words: Annotated[list[str], typer.Argument(metavar="COMMAND [ARGS]...", show_default=False)],
    service: Annotated[str, typer.Option("--in", metavar="SERVICE", help="Run it in this service, not here")] = "",
    artifacts: Annotated[str, typer.Option("--artifacts", metavar="DIR", help="Where to keep what tells of it")] = (
        "devenv-ci"
    ),
    copy: Annotated[
        list[str] | None,
        typer.Option("--copy", metavar="SERVICE:PATH", help="Keep a file or folder of a service's, too"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up at the end")] = False,
    wait_timeout: Annotated[
        str, typer.Option("--wait-timeout", metavar="SECONDS", help="Longest time for everything to be ready")
    ] = "300",
    build: options.Build = False,
    pull: options.Pull = "",
    frozen: options.Frozen = False,
) -> int:
    """Bring everything up, run a command or a task, keep logs and a JUnit report, and take everything down."""
    given: options.Globals = ctx.obj
    project = context.load(given)
    project.check_services([service] if service else [])
    copies = [_copy(project, text) for text in copy or ()]
    flags = ["--wait-timeout", str(formats.seconds_or_duration(wait_timeout, option="--wait-timeout"))]
    flags += ["--build"] if build else []
    flags += ["--pull", pull] if pull else []
    flags += ["--frozen"] if frozen else []
    run = _Run(given, project, os.path.abspath(artifacts))
    if given.dry_run:
        print(f"up {' '.join(flags)}\n{again.shown(words)}\ndown -v")
        return 0
    return run.all(flags, _Wanted(words, service, copies, keep))


class _Wanted:
    def __init__(self, words: list[str], service: str, copies: list[tuple[str, str]], keep: bool) -> None:
        self.words = words
        self.service = service
        self.copies = copies
        self.keep = keep


def _copy(project: context.Loaded, text: str) -> tuple[str, str]:
    service, sign, path = text.partition(":")
    if not sign or not path.startswith("/"):
        raise errors.UsageError(f"`--copy {text}` is not of the form SERVICE:/PATH")
    project.check_services([service])
    return service, path


class _Run:
    def __init__(self, given: options.Globals, project: context.Loaded, folder: str) -> None:
        self._given = given
        self._project = project
        self._folder = folder
        self._name = given.project_name or f"{project.identity.name}-ci"
        self._report = junit.Suite(f"devenv ci {project.identity.name}")
        self._interrupted = 0
        self._unheard = 0  # a signal that came before there was a child to pass it on to
        self._child: subprocess.Popen[bytes] | None = None

    def all(self, flags: list[str], wanted: _Wanted) -> int:
        try:
            os.makedirs(f"{self._folder}/logs", exist_ok=True)
            # What an earlier run kept must not be taken for this one's: it may have had other services.
            for name in os.listdir(f"{self._folder}/logs"):
                if name.endswith(".log"):
                    os.unlink(f"{self._folder}/logs/{name}")
        except OSError as exc:
            raise errors.UsageError(f"can't make `{exc.filename}`: {exc.strerror}", hint="--artifacts DIR") from exc
        with self._passing_signals():
            code = self._step("up", self._argv("up", "--detach", "--wait", *flags))
            if code == 0 and not self._interrupted:
                code = self._step(again.shown(wanted.words), self._command(wanted), environ=self._environ())
            self._keep(wanted)
            if not wanted.keep:
                self._child_code(self._argv("down", "--volumes", "--remove-orphans"))
        code = self._interrupted or code
        self._report.write(f"{self._folder}/junit.xml")
        print(f"what tells of it is in `{self._folder}`", file=sys.stderr)
        return code

    def _argv(self, *words: str) -> list[str]:
        return again.argv(self._given, self._project, *words, name=self._name)

    def _command(self, wanted: _Wanted) -> list[str]:
        if wanted.service:
            return self._argv("exec", "--no-tty", wanted.service, *wanted.words)
        if wanted.words[0] in taskforms.parse_all(self._project.canonical):
            return self._argv("task", *wanted.words)
        return wanted.words

    def _environ(self) -> dict[str, str]:
        """So that a `devenv` in the command means this environment."""
        return {**os.environ, "CI": os.environ.get("CI", "true"), "COMPOSE_PROJECT_NAME": self._name}

    def _step(self, name: str, argv: list[str], *, environ: dict[str, str] | None = None) -> int:
        """Its output is shown as it comes, and the end of it kept for the report."""
        begun = time.monotonic()
        path = f"{self._folder}/logs/.output"
        with open(path, "w+b") as output:
            code = self._child_code(argv, environ=environ, tee=output)
            output.seek(0, os.SEEK_END)
            output.seek(max(0, output.tell() - _TAIL))
            tail = output.read().decode("utf-8", "replace")
        os.unlink(path)
        self._report.add(
            name, seconds=time.monotonic() - begun, failure=f"exit code {code}" if code else "", output=tail
        )
        return code

    def _child_code(self, argv: list[str], *, environ: dict[str, str] | None = None, tee: Any = None) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        self._unheard = 0
        try:
            # A command and what it starts are one group: a signal to us is passed on to all of them.
            self._child = subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if tee else None,
                stderr=subprocess.PIPE if tee else None,
                start_new_session=True,
            )
        except OSError as exc:
            print(f"error: can't run `{argv[0]}`: {exc.strerror}", file=sys.stderr)
            return 127
        if self._unheard:
            # It runs before we know its number.
            self._pass_on(self._unheard)
        if tee is not None:
            _carry({self._child.stdout: 1, self._child.stderr: 2}, tee)
        code = again.code(self._child.wait())
        self._child = None
        return code

    def _keep(self, wanted: _Wanted) -> None:
        services = sorted(self._project.canonical["services"])
        for service in services:
            with open(f"{self._folder}/logs/{service}.log", "wb") as file:
                flags = ("--timestamps", "--no-log-prefix", "--no-color")
                subprocess.run(self._argv("logs", *flags, service), stdout=file, stderr=subprocess.STDOUT, check=False)
        with open(f"{self._folder}/ps.json", "wb") as file:
            subprocess.run(self._argv("ps", "--all", "--format", "json"), stdout=file, check=False)
        for service, path in wanted.copies:
            target = f"{self._folder}/{service}"
            os.makedirs(target, exist_ok=True)
            if subprocess.run(self._argv("cp", f"{service}:{path}", target), check=False).returncode != 0:
                terminal.warn(f"`{path}` of `{service}` could not be kept")

    def _pass_on(self, number: int) -> None:
        if self._child is None:
            self._unheard = number
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

    @contextlib.contextmanager
    def _passing_signals(self) -> Iterator[None]:
        """An interrupt ends the command, and then everything is taken down all the same."""

        def pass_on(number: int, _frame: object) -> None:
            self._interrupted = 128 + number
            self._pass_on(number)

        before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _carry(pipes: Mapping[Any, int], tee: IO[bytes]) -> None:
    """What comes in at the pipes goes to our own descriptors, and all of it to a file, until they are closed."""
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                tee.write(data)
                terminals.write_all(pipes[key.fileobj], data)
    for pipe in pipes:
        pipe.close()
