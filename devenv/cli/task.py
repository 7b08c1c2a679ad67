"""``devenv task``: the project's own commands, on this machine or in a service, after what they depend on.

It runs in the caller's own process, not in a preloaded one: that may live in a user namespace, where a command that is
meant for this machine would take itself for root.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import again, context, inventory, options, report, table, terminal
from devenv.graph import traversal
from devenv.reconcile import fingerprint
from devenv.spec import taskforms

_NOT_FOUND = 127


def command(
    ctx: typer.Context,
    *,
    words: Annotated[list[str] | None, typer.Argument(metavar="[TASK] [ARGS]...", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run it though nothing has changed")] = False,
    no_deps: Annotated[bool, typer.Option("--no-deps", help="Nothing that it depends on")] = False,
    format: options.TableFormat = "table",
) -> int:
    """Run one of the project's tasks after what it depends on, or list them."""
    given: options.Globals = ctx.obj
    project = context.load(given)
    tasks = taskforms.parse_all(project.canonical)
    if not words:
        _list(tasks, options.table_format(format))
        return 0
    name, *more = words
    if name not in tasks:
        hint = report.did_you_mean(name, tasks) or f"tasks: {', '.join(sorted(tasks)) or 'none'}"
        raise errors.UsageError(f"no such task: `{name}`", hint=hint)
    return Runner(given, project, tasks).run(name, more, force=force, no_deps=no_deps)


def _list(tasks: dict[str, taskforms.Task], shape: options.Format) -> None:
    ordered = [tasks[name] for name in sorted(tasks)]
    if shape is options.Format.JSON:
        print(json.dumps([_row(each) for each in ordered]))
        return
    rows = [(each.name, each.service or "-", each.description or again.shown(each.command)) for each in ordered]
    print(table.render(("TASK", "SERVICE", "WHAT IT DOES"), rows), end="")


def _row(task: taskforms.Task) -> dict[str, Any]:
    return {
        "Name": task.name,
        "Service": task.service,
        "Description": task.description,
        "Command": task.command if isinstance(task.command, str) else list(task.command),
        "DependsOn": [*task.tasks, *(taskforms.SERVICE + each for each in task.services)],
    }


class Runner:
    """Of one command line. What several tasks depend on is done once."""

    def __init__(self, given: options.Globals, project: context.Loaded, tasks: dict[str, taskforms.Task]) -> None:
        self._given = given
        self._project = project
        self._tasks = tasks

    def run(self, name: str, more: list[str], *, force: bool, no_deps: bool) -> int:
        """The exit code of the first that fails, or 0. ``more`` words go to the task itself."""
        needs = {each.name: each.tasks for each in self._tasks.values()}
        wanted = {name} if no_deps else traversal.closure(needs, [name])
        order = [each for each in traversal.order(needs) if each in wanted and self._tasks[each].command]
        services = sorted({each for task in wanted for each in self._tasks[task].services})
        if self._given.dry_run:
            print("".join(f"service:{each}\n" for each in services) + "".join(f"{each}\n" for each in order), end="")
            return 0
        if services and not no_deps:
            brought = again.run(self._given, self._project, "up", "--detach", "--wait", *services)
            if brought.returncode != 0:
                return again.code(brought.returncode)
        for each in order:
            code = self._one(self._tasks[each], more if each == name else [], force=force and each == name)
            if code != 0:
                return code
        return 0

    def _one(self, task: taskforms.Task, more: list[str], *, force: bool) -> int:
        now = self._fingerprint(task, more)
        if now and not force and self._is_done(task, now):
            _say(task, "Skipped", "its inputs are as they were")
            return 0
        _say(task, "Running")
        begun = time.monotonic()
        code = self._in_service(task, more) if task.service else self._here(task, more)
        if code != 0:
            _say(task, "Failed", f"with exit code {code}")
            return code
        lacking = fingerprint.missing(self._project.identity.directory, task.outputs)
        if lacking:
            raise errors.UsageError(
                f"task `{task.name}` ended well, but made no `{lacking[0]}`", hint="`outputs:` names what it makes"
            )
        if now:
            # As the inputs are afterwards: a task may write to a file that it reads.
            after = self._fingerprint(task, more)
            fingerprint.keep(self._project.where, self._project.identity, task.name, after)
        _say(task, "Done", f"in {time.monotonic() - begun:.1f} s")
        return 0

    def _fingerprint(self, task: taskforms.Task, more: list[str]) -> str:
        """ "" of one that says nothing of its inputs: it is always run."""
        if not task.inputs:
            return ""
        directory = self._project.identity.directory
        for pattern in fingerprint.missing(directory, task.inputs):
            terminal.warn(f"the input `{pattern}` of task `{task.name}` matches no file")
        service = self._project.canonical["services"].get(task.service) or {}
        rest = {
            "command": task.command,
            "more": more,
            "environment": {
                name: os.environ.get(name) if value is None else value for name, value in task.environment.items()
            },
            "working_dir": task.working_dir,
            "service": [task.service, service.get("image"), service.get("build")],
        }
        return fingerprint.take(directory, task.inputs, rest)

    def _is_done(self, task: taskforms.Task, now: str) -> bool:
        project = self._project
        if fingerprint.missing(project.identity.directory, task.outputs):
            return False
        return fingerprint.is_same(project.where, project.identity, task.name, now)

    def _here(self, task: taskforms.Task, more: list[str]) -> int:
        argv = _shell(task.command, more, "/bin/sh") if isinstance(task.command, str) else [*task.command, *more]
        environ = dict(os.environ)
        environ |= {name: value for name, value in task.environment.items() if value is not None}
        folder = os.path.join(self._project.identity.directory, task.working_dir)
        _flush()
        try:
            return again.code(subprocess.run(argv, cwd=folder, env=environ, check=False).returncode)
        except OSError as exc:
            where = f" in `{folder}`" if exc.filename != argv[0] else ""
            report.show(errors.UsageError(f"task `{task.name}`: can't run `{argv[0]}`{where}: {exc.strerror}"))
            return _NOT_FOUND

    def _in_service(self, task: taskforms.Task, more: list[str]) -> int:
        words = _shell(task.command, more, "sh") if isinstance(task.command, str) else [*task.command, *more]
        flags = ["--workdir", task.working_dir] if task.working_dir else []
        for name, value in task.environment.items():
            flags += ["--env", name if value is None else f"{name}={value}"]
        there = inventory.load(self._project.where, self._project.identity.id)
        runs = any(
            item.record.service == task.service and not item.record.oneoff and item.state == "running" for item in there
        )
        verb = ["exec"] if runs else ["run", "--rm"]
        _flush()
        return again.code(again.run(self._given, self._project, *verb, *flags, task.service, *words).returncode)


def _shell(line: str, more: list[str], shell: str) -> list[str]:
    """What comes after the task's name on the command line goes on its line's end, as words."""
    return [shell, "-c", f'{line} "$@"' if more else line, shell, *more]


def _say(task: taskforms.Task, word: str, details: str = "") -> None:
    print(f" Task {task.name}  {word}  {details}".rstrip(), file=sys.stderr)


def _flush() -> None:
    """What was said comes before what a child says."""
    sys.stdout.flush()
    sys.stderr.flush()
