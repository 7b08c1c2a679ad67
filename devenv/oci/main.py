"""From the command line to a command, and from what goes wrong to the log and an exit code."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from devenv import __version__, errors
from devenv.oci import checks, log, options, store

if TYPE_CHECKING:
    import argparse


class Context(NamedTuple):
    """What every command is given."""

    given: argparse.Namespace  # the command's own options
    store: store.Store
    log: log.Log
    cgroup_manager: str
    rootless: bool  # having no cgroups is no error


def main(arguments: list[str]) -> NoReturn:
    code = 1
    try:
        code = run(arguments)
        sys.stdout.flush()
    except SystemExit as exc:  # of argparse, after --help
        code = exc.code if isinstance(exc.code, int) else 1
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:
        code = 130
    finally:
        # Nothing is left to be flushed, and nothing that an orderly shutdown would add.
        try:
            sys.stdout.flush()
        except OSError:
            pass
        os._exit(code)


def run(arguments: list[str]) -> int:
    here = log.Log()
    command = ""
    try:
        parser = options.globals_parser()
        given = parser.parse_args(arguments)
        if given.version:
            print(_version())
            return 0
        if not given.command or given.command in {"help", "h"}:
            print(parser.format_help(), end="")
            return 0
        here = log.Log(given.log, form=given.log_format, debug=given.debug)
        command = given.command
        here.debug(f"called with {' '.join(arguments)}")
        own = options.command_parser(command).parse_args(given.arguments)
        manager = "systemd" if given.systemd_cgroup else given.cgroup_manager
        context = Context(own, store.Store(given.root or default_root()), here, manager, _rootless(given.rootless))
        return _dispatch(command, context)
    except errors.DevenvError as exc:
        here.error(exc.message if exc.hint is None else f"{exc.message} ({exc.hint})")
        return _code(command)
    except OSError as exc:
        here.error(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror))
        return _code(command)


def _code(command: str) -> int:
    """As runc and crun: callers tell from it that `exec` has failed, and not what it was to run."""
    return 255 if command == "exec" else 1


def _rootless(text: str) -> bool:
    if text not in {"true", "false", "auto"}:
        raise errors.UsageError(f"--rootless is true, false or auto, not `{text}`")
    return text == "true" or (text == "auto" and os.geteuid() != 0)


def default_root() -> str:
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if os.geteuid() == 0 and not (base and "_CONTAINERS_ROOTLESS_UID" in os.environ):
        return "/run/devenv/oci"
    return f"{base}/devenv/oci" if base else f"/tmp/devenv-oci-{os.geteuid()}"


def _version() -> str:
    version = __version__ if __version__.count(".") >= 2 else f"{__version__}.0"
    return f"devenv-oci version {version}\ncommit: {version}\nspec: {checks.VERSION}"


def _dispatch(command: str, context: Context) -> int:
    # Each command loads what it needs: `state` is called every second by some.
    if command in {"create", "run", "start"}:
        from devenv.oci import lifecycle

        return {"create": lifecycle.create, "run": lifecycle.run, "start": lifecycle.start}[command](context)
    if command == "exec":
        from devenv.oci import executing

        return executing.execute(context)
    if command == "state":
        print(json.dumps(context.store.get(context.given.id).described(), indent=2))
        return 0
    if command in {"list", "ps"}:
        from devenv.oci import listing

        return {"list": listing.containers, "ps": listing.processes}[command](context)
    if command == "update":
        from devenv.oci import update

        return update.update(context)
    if command == "events":
        from devenv.oci import events

        return events.follow(context)
    if command in {"features", "spec"}:
        from devenv.oci import template

        return {"features": template.features, "spec": template.spec}[command](context)
    from devenv.oci import control

    return {
        "kill": control.kill,
        "delete": control.delete,
        "pause": control.pause,
        "resume": control.resume,
    }[command](context)
