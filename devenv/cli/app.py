"""One run of the command line: ``main(argv)`` returns the exit code and never raises, exits or prints a traceback.

It runs in a fresh process (``devenv.entry``) and in a forked child of the zygote, with the caller's descriptors,
folder and environment in place. Importing this module costs typer and nothing else; a command's own module is
imported when that command is called (``commands`` is the table), so ``--help`` stays quick.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer
from typer import core
from typer.main import get_command as build

from devenv import errors
from devenv.cli import commands, options, report, settings

Context = Any  # click's own class: typer brings a copy of click from 0.28 on, and imports it before


class Group(core.TyperGroup):
    """The commands of a table, each built when it is asked for."""

    table: Mapping[str, commands.Command] = commands.COMMANDS

    def list_commands(self, ctx: Context) -> list[str]:
        return [name for name, entry in self.table.items() if _exists(entry) and not entry.hidden]

    def get_command(self, ctx: Context, cmd_name: str) -> Any:
        entry = self.table.get(cmd_name)
        if entry is None or not _exists(entry):
            return None
        return load(cmd_name, entry)

    def format_commands(self, ctx: Context, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name].help) for name in self.list_commands(ctx)])

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            _unknown(args[0], self.list_commands(ctx), group="" if self.table is commands.COMMANDS else self.name or "")
        return super().resolve_command(ctx, args)


class Command(core.TyperCommand):
    """A command that also takes ``--flag=false`` and ``--flag=true``, and ``--dry-run``, as docker's do."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        plain = _plain_flags(self, args, interspersed=ctx.allow_interspersed_args)
        if _DRY_RUN in plain:
            plain.remove(_DRY_RUN)
            ctx.obj = (ctx.obj or options.Globals())._replace(dry_run=True)
        return super().parse_args(ctx, plain)

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Without the braces that typer has around an argument that must be there."""
        return [piece[1:-1] if piece.startswith("{") else piece for piece in super().collect_usage_pieces(ctx)]


# A word that can't be typed stands for `--dry-run` once it is known to be an option and not somebody's argument.
_DRY_RUN = "\0dry-run"


def _plain_flags(command: Any, args: list[str], *, interspersed: bool) -> list[str]:
    """``args`` with each ``--flag=true`` and ``--flag=false`` in click's own form, or left out where that says it."""
    known = {name: parameter for parameter in command.params for name in parameter.opts if name.startswith("-")}
    result: list[str] = []
    position = 0
    while position < len(args):
        word = args[position]
        position += 1
        if word == "--" or not (word.startswith("-") and len(word) > 1):
            if word == "--" or not interspersed:
                return [*result, word, *args[position:]]
            result.append(word)
            continue
        name, sign, value = word.partition("=")
        parameter = known.get(name)
        if word == "--dry-run":
            result.append(_DRY_RUN)
        elif parameter is None or not parameter.is_flag:
            result.append(word)
            if parameter is not None and not sign and position < len(args):
                # Its value, which may look like anything.
                result.append(args[position])
                position += 1
        elif not sign or value.lower() in {"true", "1", "t"}:
            result.append(name)
        elif value.lower() in {"false", "0", "f"}:
            result += parameter.secondary_opts[:1]
        else:
            raise errors.UsageError(f"`{word}` is neither true nor false")
    return result


def app_names() -> list[str]:
    """Every command whose module is there."""
    return [name for name, entry in commands.COMMANDS.items() if _exists(entry)]


def _exists(entry: commands.Command) -> bool:
    return bool(entry.group) or os.path.exists(f"{os.path.dirname(__file__)}/{entry.module}.py")


def load(name: str, entry: commands.Command) -> Any:
    """The click command of one row of the table."""
    if entry.group:
        return _load_group(name, entry)
    function = getattr(importlib.import_module(f"devenv.cli.{entry.module}"), entry.function)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"allow_interspersed_args": not entry.positional}
    single.command(name, cls=Command, help=function.__doc__ or f"{entry.help}.", context_settings=settings)(function)
    return build(single)


def _load_group(name: str, entry: commands.Command) -> Any:
    """``devenv image``: shows its commands where none is named."""
    table = type("Table", (Group,), {"table": entry.group})
    group = typer.Typer(
        name=name, cls=table, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )

    @group.callback(invoke_without_command=True, help=f"{entry.help}.")
    def show(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            print(ctx.get_help())

    return build(group)


def _unknown(name: str, known: list[str], *, group: str) -> NoReturn:
    if name in commands.MISSING and not group:
        raise errors.UsageError(f"`devenv {name}` is not built yet", hint=commands.MISSING[name] or None)
    path = f"{group} " if group else ""
    raise errors.UsageError(
        f"there is no command `{path}{name}`",
        hint=report.did_you_mean(name, known) or f"`devenv {path}--help` lists the commands",
    )


app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _devenv(
    ctx: typer.Context,
    *,
    file: Annotated[
        list[str] | None, typer.Option("--file", "-f", metavar="FILE", help="Spec file; may be repeated")
    ] = None,
    project_name: Annotated[str, typer.Option("--project-name", "-p", metavar="NAME", help="Name of the project")] = "",
    project_directory: Annotated[
        str, typer.Option("--project-directory", metavar="DIR", help="Folder that paths are relative to")
    ] = "",
    profile: Annotated[
        list[str] | None, typer.Option("--profile", metavar="NAME", help="Profile to enable; may be repeated")
    ] = None,
    env_file: Annotated[
        list[str] | None, typer.Option("--env-file", metavar="FILE", help="In place of .env; may be repeated")
    ] = None,
    parallel: Annotated[int, typer.Option(metavar="N", help="Most operations at once; -1 is no limit")] = -1,
    progress: Annotated[options.Progress | None, typer.Option(help="How progress is shown", show_default=False)] = None,
    ansi: Annotated[options.Ansi | None, typer.Option(help="When to use colours and cursor moves")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing")] = False,
    all_resources: Annotated[
        bool, typer.Option("--all-resources", help="Include resources that no service uses")
    ] = False,
    compatibility: Annotated[
        bool, typer.Option("--compatibility", help="Join container names by _ in place of -")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", "--verbose", help="Show tracebacks and what is talked about")
    ] = False,
    version: Annotated[bool, typer.Option("--version", "-v", help="Print the version")] = False,
) -> None:
    """Declarative dev environments on containers that devenv runs itself."""
    if ctx.resilient_parsing:
        return
    ctx.obj = options.Globals(
        files=tuple(file or ()),
        project_name=project_name,
        project_directory=project_directory,
        profiles=tuple(profile or ()),
        env_files=tuple(env_file or ()),
        parallel=parallel,
        progress=settings.progress(progress),
        ansi=settings.ansi(ansi),
        dry_run=dry_run,
        all_resources=all_resources,
        compatibility=compatibility,
        debug=debug,
    )
    report.settings = ctx.obj
    if version:
        from devenv import __version__

        print(f"devenv version {__version__}")
        raise typer.Exit(0)
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit(0)


def main(argv: list[str]) -> int:
    """Run ``argv`` (without the program's name) and return the exit code."""
    return report.run(lambda: _run(argv), argv)


def _run(argv: list[str]) -> int:
    # Not click's own main(): that makes a broken pipe exit code 1 and swaps sys.stdout for good.
    group = click_group()
    try:
        with group.make_context("devenv", list(argv)) as context:
            result = group.invoke(context)
    except typer.Exit as stop:
        result = stop.exit_code
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


_built: list[Any] = []


def click_group() -> Any:
    if not _built:
        _built.append(build(app))
    return _built[0]


def preload() -> None:
    """For the zygote: import what commands import, and build the table, so that its children need not.

    Not those of groups (`image prune`): they are called now and then, and what they need would be kept for days.
    """
    click_group()
    for name, entry in commands.COMMANDS.items():
        if not entry.group and _exists(entry):
            load(name, entry)
    for module in _PRELOADED:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    from devenv.runtime import seccomp

    seccomp.warm()


# What commands import inside their bodies.
_PRELOADED = (
    "devenv.build.solver",
    "devenv.cli.attached",
    "devenv.cli.attachment",
    "devenv.cli.building",
    "devenv.cli.context",
    "devenv.cli.display.jsonl",
    "devenv.cli.display.plain",
    "devenv.cli.display.quiet",
    "devenv.cli.display.steps_plain",
    "devenv.cli.display.steps_tty",
    "devenv.cli.display.tty",
    "devenv.cli.inventory",
    "devenv.cli.logview",
    "devenv.cli.operate",
    "devenv.network.portproxy_client",
    "devenv.reconcile.record",
    "devenv.reconcile.restart",
    "devenv.runtime.exec",
    "devenv.runtime.logs",
    "devenv.runtime.monitor_client",
    "devenv.runtime.signals",
    "devenv.runtime.state",
    "devenv.spec.loader",
    "devenv.supervisor.client",
)
