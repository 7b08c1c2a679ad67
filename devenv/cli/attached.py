"""``up`` in the foreground: the logs of what it brought up, until that has ended or the user has had enough."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

from devenv import errors
from devenv.cli import bringup, context, filewatch, inventory, logview, operate, options, report, terminal, watching
from devenv.cli.display import sink
from devenv.util import fs


class Manner(NamedTuple):
    attach: frozenset[str] = frozenset()  # empty is all
    no_attach: frozenset[str] = frozenset()
    dependencies: bool = False
    abort: str = ""  # "", exit or failure
    exit_code_from: str = ""
    colour: bool = True
    prefix: bool = True
    timestamps: bool = False


def run(given: options.Globals, project: context.Loaded, wishes: bringup.Wishes, manner: Manner) -> int:
    """Returns the exit code of the whole command."""
    return _Session(given, project, wishes, manner).run()


def shows(service: str, wishes: bringup.Wishes, manner: Manner, *, by_default: bool = True) -> bool:
    """Whether this service's logs are to be shown. ``by_default`` is the spec's ``attach:``."""
    if manner.attach:
        return service in manner.attach
    if service in manner.no_attach or not by_default:
        return False
    return not wishes.services or manner.dependencies or service in wishes.services


class _Session:
    def __init__(self, given: options.Globals, project: context.Loaded, wishes: bringup.Wishes, manner: Manner) -> None:
        self._given = given
        self._project = project
        self._wishes = wishes
        self._manner = manner
        self._began = time.time()
        self._ids: set[str] = set()
        self._services: list[str] = []
        self._logs: logview.Background | None = None
        self._reported: set[tuple[str, float | None]] = set()  # container and when it ended
        self._ended: dict[str, int] = {}  # container -> exit code, in the order in which they ended
        self._interrupt_seen = threading.Event()

    def run(self) -> int:
        with gentle_end(self._interrupt_seen):
            try:
                result = bringup.bring_up(self._given, self._project, self._wishes, title="up")
                self._remember(result)
                logs = self._follow()
                if self._wishes.watch:
                    self._watch_files()
                aborted = self._watch(logs)
                if not aborted:
                    return self._exit_code(0)
                self._stop()
                return self._exit_code(next(iter(self._ended.values()), 0))
            except KeyboardInterrupt:
                if self._logs is not None and self._logs.failed is not None:
                    self._stop()
                    return report.BROKEN_PIPE
                self._interrupted()
                return report.INTERRUPTED
            finally:
                if self._logs is not None:
                    self._logs.finish()

    def _remember(self, result: dict[str, Any]) -> None:
        containers = result.get("containers") or []
        self._ids = {str(item["id"]) for item in containers}
        self._services = sorted({str(item["service"]) for item in containers})

    def _look(self) -> list[inventory.Container]:
        """What belongs to this ``up``: a container that replaces another one belongs to it, too."""
        every = inventory.load(self._project.where, self._project.identity.id)
        return [item for item in every if not item.record.oneoff and item.record.service in self._services]

    def _is_shown(self, item: inventory.Container) -> bool:
        service = self._project.spec.services.get(item.record.service)
        by_default = getattr(service, "attach", None) is not False
        return shows(item.record.service, self._wishes, self._manner, by_default=by_default)

    def _follow(self) -> logview.Background:
        shown = [item for item in self._look() if self._is_shown(item)]
        printer = logview.Printer(
            colour=self._manner.colour and terminal.wants_colour(sys.stdout, self._given.ansi),
            prefix=self._manner.prefix,
            timestamps=self._manner.timestamps,
        )
        printer.know(shown)
        self._printer = printer
        names = ", ".join(terminal.visible(item.label) for item in shown)
        print(f"Attaching to {names}" if names else "Attached to no logs", file=sys.stderr, flush=True)
        self._waiting = threading.get_ident()
        self._logs = logview.Background(printer, since=self._began, on_failure=self._wake)
        for item in shown:
            self._logs.follow(item)
        return self._logs

    def _watch_files(self) -> None:
        """On a thread of its own, which ends with this process: as does the watching, when its connection is cut."""
        request = filewatch.params(self._given, self._project, self._services)

        def follow() -> None:
            try:
                filewatch.follow(self._project, request, self._printer.note)
            except (errors.DevenvError, OSError) as exc:
                self._printer.note(f"watch: error: {exc}")

        threading.Thread(target=follow, name="watch", daemon=True).start()

    def _wake(self) -> None:
        """The main thread waits for the supervisor; a signal is what wakes it.

        One that comes in the moment before the wait begins does not end it (signal-safety(7) knows the race): again,
        until its handler has run.
        """
        while not self._interrupt_seen.is_set():
            signal.pthread_kill(self._waiting, signal.SIGTERM)
            self._interrupt_seen.wait(0.5)

    # -- watching -----------------------------------------------------------------------------------------------

    def _watch(self, logs: logview.Background) -> bool:
        """Until all have ended (False) or one that ends has to take the others along (True)."""
        for message in watching.changes(self._project):
            current = self._look()
            for item in current:
                if self._is_shown(item) and item.record.id not in self._ids:
                    self._printer.know([item])
                    logs.follow(item)
                self._ids.add(item.record.id)
            stopped = [item for item in current if item.has_ended]
            self._report_ends(message.get("container"), current, logs)
            for item in stopped:
                self._ended.setdefault(item.record.id, _code(item.exit_code))
            if any(self._aborts(item) for item in stopped):
                return True
            if all(item.has_ended or item.state == "created" for item in current):
                return False
        return False

    def _report_ends(
        self, event: dict[str, Any] | None, current: list[inventory.Container], logs: logview.Background
    ) -> None:
        """Those that have ended, once each; of one that is restarted, only the message tells."""
        died = event.get("id") if event is not None and event.get("action") == "die" else None
        for item in current:
            ended = item.has_ended and not self._is_old(item)
            if not self._is_shown(item) or not (ended or item.record.id == died):
                continue
            end = (item.record.id, item.finished)
            if ended and end in self._reported:
                continue
            self._reported.add(end)
            code = event.get("exit_code") if event is not None and item.record.id == died else item.exit_code
            again = f" ({_again(item)})" if item.state == "restarting" else ""
            logs.say(item, f"exited with code {_code(code)}{_out_of_memory(item)}{again}")

    def _is_old(self, item: inventory.Container) -> bool:
        """It had ended before, which is not news; that one ended while the others came up is."""
        return (item.finished or 0.0) < self._began

    def _aborts(self, item: inventory.Container) -> bool:
        if self._is_old(item):
            return False
        return self._manner.abort == "exit" or (self._manner.abort == "failure" and _code(item.exit_code) != 0)

    def _exit_code(self, otherwise: int) -> int:
        if not self._manner.exit_code_from:
            return otherwise
        for item in self._look():
            if item.record.service == self._manner.exit_code_from:
                return _code(item.exit_code)
        raise errors.ContainerError(f"service `{self._manner.exit_code_from}` has no container to take a code from")

    # -- stopping -----------------------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        print("\nStopping gracefully; press Ctrl+C again to kill", file=sys.stderr, flush=True)
        try:
            self._stop()
        except KeyboardInterrupt:
            print("\nKilling", file=sys.stderr, flush=True)
            self._request("kill", {"signal": "SIGKILL"})

    def _stop(self) -> None:
        self._request("stop", {"timeout": self._wishes.timeout})

    def _request(self, op: str, params: dict[str, Any]) -> None:
        services = self._services or list(self._wishes.services)
        # Log lines go on in between, so there is no block to redraw.
        lines = self._given
        if lines.progress in {options.Progress.AUTO, options.Progress.TTY}:
            lines = lines._replace(progress=options.Progress.PLAIN)
        request = {"services": services, **params}
        operate.request(operate.ensure(self._project), op, request, show=sink.choose(lines))


def _code(exit_code: int | None) -> int:
    return 255 if exit_code is None else exit_code


def _again(item: inventory.Container) -> str:
    """Once it is worth more than a word: the wait before the third restart is nearly half a second."""
    if item.back_off is None or item.back_off.crash < 3:
        return "restarting"
    loop = ", a crash loop" if item.back_off.crash_loop else ""
    return f"restarting in {max(item.back_off.at - time.time(), 0):.1f} s, crash {item.back_off.crash}{loop}"


def _out_of_memory(item: inventory.Container) -> str:
    if not item.oom_killed:
        return ""
    config = fs.read_json(f"{item.folder}/config.json") or {}
    limit = config.get("linux", {}).get("resources", {}).get("memory", {}).get("limit")
    if not limit:
        return ", out of memory: the machine had none left"
    return f", out of memory: it may have {limit / (1 << 20):.4g} MiB, `mem_limit` gives it more"


@contextlib.contextmanager
def gentle_end(seen: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGHUP are a Ctrl-C, too: whoever closes the window wants an end, not orphans."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        seen.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell's background job begins with SIGINT ignored, and keeps it so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
