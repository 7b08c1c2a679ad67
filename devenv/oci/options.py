"""The command line, as runc and crun have it. Each command's parser is made only when that command is called."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from devenv import errors

_Parser = argparse.ArgumentParser
# It looks for a translation of each of its words anew, through `locale` and the disk: 10 ms for a parser, a third of
# what the fastest commands take. There is none.
setattr(argparse, "_", str)  # noqa: B010  no name that a type checker knows


class _Help(argparse.HelpFormatter):
    """Like the help of the programs whose place this one takes: people and tests look for these headings."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


class Parser(argparse.ArgumentParser):
    def __init__(self, name: str, summary: str, usage: str) -> None:
        super().__init__(
            prog=f"{program()} {name}".strip(),
            add_help=True,
            allow_abbrev=False,
            formatter_class=_Help,
            usage=f"{program()} {name} {usage}".replace("  ", " "),
        )
        self._heading = f"NAME:\n   {self.prog} - {summary}\n\n"

    def format_help(self) -> str:
        return self._heading + super().format_help()

    def error(self, message: str) -> NoReturn:
        raise errors.UsageError(message, hint=f"see `{self.prog} --help`")


def program() -> str:
    name = os.path.basename(sys.argv[0])
    return "devenv runtime" if name in {"devenv", "-c", "__main__.py"} else name


def globals_parser() -> Parser:
    parser = Parser("", "Open Container Initiative runtime", "[options] COMMAND [arguments…]")
    parser.epilog = "commands: " + ", ".join(COMMANDS)
    add = parser.add_argument
    add("--root", default="", metavar="DIR", help="where the state of containers is kept")
    add("--log", default="", metavar="FILE", help="write errors and warnings to FILE, too")
    add("--log-format", default="text", choices=("text", "json"))
    add("--debug", action="store_true")
    add("--cgroup-manager", default="cgroupfs", choices=("cgroupfs", "systemd", "disabled"))
    add("--systemd-cgroup", action="store_true", help="the same as --cgroup-manager=systemd")
    add("--rootless", default="auto", metavar="true|false|auto", help="whether lacking cgroups are ignored")
    add("--criu", default="", help=argparse.SUPPRESS)
    add("-v", "--version", action="store_true")
    add("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    add("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _id(parser: _Parser) -> None:
    parser.add_argument("id", metavar="CONTAINER")


def _bundle(parser: _Parser) -> None:
    add = parser.add_argument
    add("-b", "--bundle", default=".", metavar="DIR", help="the folder with config.json")
    add("-f", "--config", default="config.json", metavar="FILE", help="another name for config.json")
    add("--no-pivot", action="store_true", help="chroot instead of pivot_root: for ramdisks")
    add("--no-new-keyring", action="store_true")
    add("--no-subreaper", action="store_true", help=argparse.SUPPRESS)
    add("--keep", action="store_true", help="don't delete the container when it has ended")
    add("-d", "--detach", action="store_true", help="don't wait for the container's end")
    _process_files(parser)
    _id(parser)


def _process_files(parser: _Parser) -> None:
    add = parser.add_argument
    add("--pid-file", default="", metavar="FILE")
    add("--console-socket", default="", metavar="SOCKET", help="where the terminal's master is sent to")
    add("--pidfd-socket", default="", metavar="SOCKET", help="where a pidfd of the process is sent to")
    add("--preserve-fds", type=int, default=0, metavar="N", help="pass descriptors 3 to N+2 on")


def _kill(parser: _Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="to all processes of the container")
    _id(parser)
    parser.add_argument("signal", nargs="?", default="SIGTERM")


def _delete(parser: _Parser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill it first if it runs")
    _id(parser)


def _exec(parser: _Parser) -> None:
    add = parser.add_argument
    add("-p", "--process", default="", metavar="FILE", help="the process as JSON")
    add("-t", "--tty", action="store_true")
    add("--cwd", default="")
    add("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    add("-u", "--user", default="", metavar="UID[:GID]")
    add("-g", "--additional-gids", action="append", default=[], type=int, metavar="GID")
    add("-c", "--cap", action="append", default=[], metavar="CAP")
    add("--no-new-privs", action="store_true")
    add("--apparmor", default="", metavar="PROFILE")
    add("--process-label", default="", metavar="LABEL")
    add("--cgroup", action="append", default=[], metavar="PATH", help="a cgroup beneath the container's")
    add("--ignore-paused", action="store_true")
    add("-d", "--detach", action="store_true")
    _process_files(parser)
    _id(parser)
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="COMMAND")


def _list(parser: _Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="ids only")
    parser.add_argument("-f", "--format", default="table", choices=("table", "json"))


def _ps(parser: _Parser) -> None:
    parser.add_argument("-f", "--format", default="table", choices=("table", "json"))
    _id(parser)
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="PS-OPTIONS")


def _spec(parser: _Parser) -> None:
    parser.add_argument("-b", "--bundle", default=".", metavar="DIR")
    parser.add_argument("-f", "--config", default="config.json", metavar="FILE")
    parser.add_argument("--rootless", action="store_true")


def _update(parser: _Parser) -> None:
    add = parser.add_argument
    add("-r", "--resources", default="", metavar="FILE", help="`linux.resources` as JSON; - for standard input")
    add("--blkio-weight", type=int)
    for name in ("cpu-period", "cpu-quota", "cpu-burst", "cpu-rt-period", "cpu-rt-runtime", "cpu-idle", "pids-limit"):
        add(f"--{name}", type=int)
    add("--cpu-share", "--cpu-shares", dest="cpu_share", type=int)
    add("--cpuset-cpus", default="")
    add("--cpuset-mems", default="")
    for name in ("memory", "memory-reservation", "memory-swap", "kernel-memory", "kernel-memory-tcp"):
        add(f"--{name}", metavar="BYTES", help="a number, or one with k, m or g behind it; -1 for no limit")
    _id(parser)


def _events(parser: _Parser) -> None:
    parser.add_argument("--interval", default="5s", metavar="TIME", help="between two measurements; 5s")
    parser.add_argument("--stats", action="store_true", help="measure once")
    _id(parser)


# command -> summary, what follows it, and its options
COMMANDS: dict[str, tuple[str, str, Callable[[Any], None] | None]] = {
    "create": ("make a container; its program waits for `start`", "[options] CONTAINER", _bundle),
    "start": ("let the program of a created container go", "CONTAINER", _id),
    "run": ("create and start a container", "[options] CONTAINER", _bundle),
    "state": ("print the state of a container as JSON", "CONTAINER", _id),
    "kill": ("send a signal to a container", "[options] CONTAINER [SIGNAL]", _kill),
    "delete": ("remove what a stopped container leaves behind", "[options] CONTAINER", _delete),
    "exec": ("run another process in a container", "[options] CONTAINER COMMAND [arguments…]", _exec),
    "list": ("list the containers of this root", "[options]", _list),
    "ps": ("list the processes of a container", "[options] CONTAINER [ps options]", _ps),
    "pause": ("suspend all processes of a container", "CONTAINER", _id),
    "resume": ("let a paused container go on", "CONTAINER", _id),
    "update": ("change the limits of a container", "[options] CONTAINER", _update),
    "events": ("print what a container uses, and when it ran out of memory", "[options] CONTAINER", _events),
    "features": ("print what this runtime can do as JSON", "", None),
    "spec": ("write a config.json to begin with", "[options]", _spec),
}


def command_parser(name: str) -> Parser:
    """Raises ``UsageError`` for a command that doesn't exist."""
    if name not in COMMANDS:
        raise errors.UsageError(f"No help topic for '{name}': no such command", hint=f"one of {', '.join(COMMANDS)}")
    summary, usage, declare = COMMANDS[name]
    parser = Parser(name, summary, usage)
    if declare is not None:
        declare(parser)
    return parser
