"""The lines that containers write, kept for as long as one may want to look back: some thousands of each."""

from __future__ import annotations

import collections
import itertools
import re
import threading
from collections.abc import Callable
from typing import NamedTuple

from devenv.cli import context, inventory, logs, terminal
from devenv.runtime import logs as runtime_logs

KEPT = 2000  # lines of a container
_FIRST = 200  # of what each has written before
_LOOK_AGAIN = 1.0  # seconds


class Line(NamedTuple):
    order: int
    service: str  # "": devenv's own
    label: str  # web-1
    text: str  # control characters are visible, colours stay


class Lines:
    """What has come, by container: one that talks much takes nothing from one that rarely does."""

    def __init__(self) -> None:
        self._kept: dict[str, collections.deque[Line]] = {}
        self._order = itertools.count()

    def add(self, service: str, label: str, text: str) -> Line:
        line = Line(next(self._order), service, label, text)
        self._kept.setdefault(label, collections.deque(maxlen=KEPT)).append(line)
        return line

    def chosen(self, wanted: Filter) -> list[Line]:
        """In the order in which they came."""
        return sorted(line for kept in self._kept.values() for line in kept if wanted.takes(line))


class Filter(NamedTuple):
    """What a command of devenv's own has said is about any service."""

    service: str = ""  # "": all
    pattern: re.Pattern[str] | None = None

    def takes(self, line: Line) -> bool:
        if self.service and line.service not in {"", self.service}:
            return False
        return self.pattern is None or self.pattern.search(terminal.without_colours(line.text)) is not None


def pattern(text: str) -> re.Pattern[str] | None:
    """Small letters find large ones, too. What is no regular expression is searched for as it stands."""
    if not text:
        return None
    flags = re.IGNORECASE if text == text.lower() else re.NOFLAG
    try:
        return re.compile(text, flags)
    except re.error:
        return re.compile(re.escape(text), flags)


class Feed:
    """A thread that calls ``deliver`` with what has been written, some lines at a time."""

    def __init__(self, project: context.Found, deliver: Callable[[list[tuple[str, str, str]]], None]) -> None:
        self._source = logs.Source(project, [], 0)
        self._deliver = deliver
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Nothing is delivered afterwards, but for what is on its way."""
        self._ending.set()

    def _run(self) -> None:
        follower = runtime_logs.Follower(tail=_FIRST)
        known: dict[str, inventory.Container] = {}
        begun: dict[tuple[str, str], str] = {}  # pieces of lines whose end has not come
        try:
            while not self._ending.is_set():
                if self._source.has_changed():
                    for item in self._source.look():
                        if item.record.id not in known:
                            known[item.record.id] = item
                            follower.add(item.record.id, item.folder)
                lines = []
                for key, line in follower.read():
                    source = (key, line.stream)
                    text = begun.pop(source, "") + line.data.rstrip(b"\r").decode("utf-8", "backslashreplace")
                    if line.partial and len(text) < _LONGEST:
                        begun[source] = text
                    else:
                        item = known[key]
                        lines.append((item.record.service, item.label, terminal.visible_log(text)))
                if lines and not self._ending.is_set():
                    self._deliver(lines)
                follower.wait(_LOOK_AGAIN)
        finally:
            follower.close()


_LONGEST = 16 << 10
