"""Carrying bytes between descriptors until all sources have ended, with nothing held back and nothing changed."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable, Mapping

from devenv.util import terminals

_CHUNK = 65536


def carry(
    outputs: Mapping[int, int],
    *,
    stdin: int | None = None,
    into: int | None = None,
    ended: int | None = None,
    also: Mapping[int, Callable[[], bool]] | None = None,
) -> None:
    """Copy each source of ``outputs`` to its target, and ``stdin`` to ``into``, until the sources have ended.

    The end of ``stdin`` closes ``into``; that it has not ended keeps nobody. With ``ended``, a pidfd, it goes on until
    that process has ended, whoever else still holds the outputs. ``also``: as in ``terminals.join``.
    """
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        left = set(outputs)
        for source in outputs:
            selector.register(source, selectors.EVENT_READ)
        if stdin is not None and into is not None:
            into = _Feeder(selector, stdin, into).start()
        if ended is not None:
            selector.register(ended, selectors.EVENT_READ)
            left = {ended}
        also = also or {}
        for descriptor in also:
            selector.register(descriptor, selectors.EVENT_READ)
        while left:
            for key, _ in selector.select():
                if isinstance(key.data, _Feeder):
                    key.data.step()
                    continue
                if key.fd in also:
                    if not also[key.fd]():
                        selector.unregister(key.fd)
                    continue
                if key.fd == ended:
                    _drain(outputs)
                    return
                data = os.read(key.fd, _CHUNK)
                if data:
                    terminals.write_all(outputs[key.fd], data)
                else:
                    selector.unregister(key.fd)
                    left.discard(key.fd)


def _drain(outputs: Mapping[int, int]) -> None:
    """What is there already."""
    for source, target in outputs.items():
        os.set_blocking(source, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(source, _CHUNK):
                terminals.write_all(target, data)


class _Feeder:
    """From our stdin to a container's, which may not read for a long time: so it never blocks."""

    def __init__(self, selector: selectors.BaseSelector, source: int, target: int) -> None:
        self._selector = selector
        self._source = source
        self._target = target
        self._pending = b""
        self._pollable = True

    def start(self) -> int:
        os.set_blocking(self._target, False)
        try:
            self._selector.register(self._source, selectors.EVENT_READ, self)
        except PermissionError:
            # epoll refuses plain files (epoll_ctl(2)): they are always ready, so the target sets the pace.
            self._pollable = False
            self._selector.register(self._target, selectors.EVENT_WRITE, self)
        return self._target

    def step(self) -> None:
        if not self._pending:
            data = os.read(self._source, _CHUNK)
            if not data:
                self._end()
                return
            self._pending = data
            if self._pollable:
                # What is pending has to go first: watch the other side until it has.
                self._selector.unregister(self._source)
                self._selector.register(self._target, selectors.EVENT_WRITE, self)
        try:
            self._pending = self._pending[os.write(self._target, self._pending) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._end()
            return
        if not self._pending and self._pollable:
            self._selector.unregister(self._target)
            self._selector.register(self._source, selectors.EVENT_READ, self)

    def _end(self) -> None:
        for descriptor in (self._source, self._target):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
        os.close(self._target)
