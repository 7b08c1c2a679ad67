"""The options before the command, and those that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from devenv.cli import settings

Progress = settings.Progress
Ansi = settings.Ansi
Globals = settings.Globals


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


Services = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", show_default=False)]
Service = Annotated[str, typer.Argument(metavar="SERVICE", show_default=False)]
Timeout = Annotated[str | None, typer.Option("--timeout", "-t", metavar="SECONDS", help="Time to stop before a kill")]
Index = Annotated[int, typer.Option("--index", metavar="N", help="Which container of the service; 0 is any")]
TableFormat = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table or json")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only print ids or names")]
NoDeps = Annotated[bool, typer.Option("--no-deps", help="Leave the services it depends on alone")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until services are running or healthy")]
WaitTimeout = Annotated[str | None, typer.Option("--wait-timeout", metavar="SECONDS", help="Longest time to wait")]
RemoveOrphans = Annotated[
    bool, typer.Option("--remove-orphans", help="Remove containers of services the spec no longer has")
]
ForceRecreate = Annotated[bool, typer.Option("--force-recreate", help="Recreate containers even if nothing changed")]
NoRecreate = Annotated[bool, typer.Option("--no-recreate", help="Keep containers even if something changed")]
Scale = Annotated[
    list[str] | None, typer.Option("--scale", metavar="SERVICE=N", help="How many containers a service has")
]
IncludeDeps = Annotated[bool, typer.Option("--include-deps", help="Also for services they depend on")]
QuietTransfer = Annotated[bool, typer.Option("--quiet", "-q", help="No progress")]
Platform = Annotated[
    str, typer.Option("--platform", metavar="PLATFORM", help="As linux/arm64/v8; this machine's if none")
]
Build = Annotated[bool, typer.Option("--build", help="Build images first")]
NoBuild = Annotated[bool, typer.Option("--no-build", help="Build no image")]
QuietBuild = Annotated[bool, typer.Option("--quiet-build", help="Build without progress")]
Pull = Annotated[str, typer.Option("--pull", metavar="POLICY", help="always, missing, never or policy")]
Frozen = Annotated[bool, typer.Option("--frozen", help="Only what devenv.lock has, and leave that as it is")]
QuietPull = Annotated[bool, typer.Option("--quiet-pull", help="Pull without progress")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to every question")]
EnvVars = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="Environment variable")]
User = Annotated[str, typer.Option("--user", "-u", metavar="USER", help="User, uid or user:group")]
Workdir = Annotated[str, typer.Option("--workdir", "-w", metavar="DIR", help="Working directory")]
NoTty = Annotated[bool, typer.Option("--no-tty", "-T", help="No terminal; the default when stdin is none")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours")]
NoLogPrefix = Annotated[bool, typer.Option("--no-log-prefix", help="No service names before lines")]
Timestamps = Annotated[bool, typer.Option("--timestamps", "-t", help="Show when each line was written")]


def table_format(text: str) -> Format:
    """Docker's Go templates are not understood, and nothing is better than something else in silence."""
    from devenv import errors

    try:
        return Format(text)
    except ValueError:
        raise errors.UsageError(
            f"`--format {text}` is not understood; it is table or json",
            hint="use `--format json` and jq" if "{{" in text else None,
        ) from None


def one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    from devenv import errors

    if value not in choices:
        raise errors.UsageError(f"`{option} {value}` is not understood; it is {' or '.join(choices)}")


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` of an option that may be repeated; a key alone has an empty value, as with Docker."""
    from devenv import errors

    found: dict[str, str] = {}
    for text in given or ():
        key, _, value = text.partition("=")
        if not key:
            raise errors.UsageError(f"`{option} {text}` is not of the form KEY=VALUE")
        found[key] = value
    return found
