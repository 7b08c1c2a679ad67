"""What containers make, back into the project, for rules of `develop.watch` with `pull:`.

No event tells of what happens in a container, so it is looked at: twice a second, less often where a look takes long,
and once more before a container's files are let go. Of several replicas the first one's files are pulled.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from devenv import errors
from devenv.reconcile import live, notes, syncing
from devenv.sync import pulling, rules, transfer

_PERIOD = 0.5  # seconds
_SHARE = 20  # times as long as a look takes, it is waited until the next

First = Callable[[str], live.Live | None]  # the container of a service whose files are pulled
Carry = Callable[[live.Live, Sequence[str]], Awaitable[None]]  # files of the project into it


class Bringer:
    def __init__(
        self,
        plans: Mapping[str, syncing.Plan],
        hands: syncing.Hands,
        *,
        first: First,
        memory: Callable[[str], str],
        directory: str,
        say: Callable[[notes.Note], None],
    ) -> None:
        """``memory`` is where to keep what is known of a service's files."""
        self._plans = plans
        self._hands = hands
        self._directory = directory
        self._say = say
        self._told: set[str] = set()
        self._pullers = {
            name: pulling.Puller(plan.rules, pulling.Memory(memory(name)))
            for name, plan in plans.items()
            if any(rule.pull is not None for rule in plan.rules)
        }
        self._task: asyncio.Task[None] | None = None
        self._first = first

    def begin(self, carry: Carry) -> None:
        if self._pullers:
            self._task = asyncio.ensure_future(self._run(carry))

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            for name in self._pullers:
                await self._last(self._first(name))

    async def release(self, container: live.Live) -> None:
        """What it made last, before nobody gets to it any more."""
        if container.record.service in self._pullers and self._first(container.record.service) is container:
            await self._last(container)

    async def apply(self, container: live.Live, items: Sequence[transfer.Item]) -> transfer.Result:
        """Carry them over, as ``Hand.apply`` does. Raises ``SyncError``."""
        name = container.record.service
        plan, puller = self._plans[name], self._pullers.get(name)
        if puller is None or self._first(name) is not container:
            return await self._hands.use(container, plan, lambda hand: hand.apply(items))
        work = functools.partial(puller.carry, container=container.id, made=container.record.created, items=items)
        result, told = await self._hands.use(container, plan, work)
        self._tell(name, told)
        return result

    async def _run(self, carry: Carry) -> None:
        while True:
            pause = _PERIOD
            for name in self._pullers:
                container = self._first(name)
                if container is None:
                    continue
                begun = time.monotonic()
                conflicts = await self._pull(container)
                pause = max(pause, (time.monotonic() - begun) * _SHARE)
                if conflicts:
                    await carry(container, conflicts)
            await asyncio.sleep(pause)

    async def _last(self, container: live.Live | None) -> None:
        if container is not None and self._hands.has(container.id):
            await self._pull(container)

    async def _pull(self, container: live.Live) -> list[str]:
        """Files that were changed on both sides."""
        name = container.record.service
        work = functools.partial(self._pullers[name].pull, container=container.id, made=container.record.created)
        try:
            told = await self._hands.use(container, self._plans[name], work)
        except (errors.DevenvError, OSError) as exc:
            if container.runs:  # of one that has just ended all that could be had was had
                self._warn(name, str(exc))
            return []
        self._tell(name, told)
        return [each.path for each in told if isinstance(each, pulling.Pulled) and each.kept]

    def _tell(self, name: str, told: Sequence[pulling.Pulled | pulling.Refused]) -> None:
        come = []
        for each in told:
            path = self._short(each.path)
            if isinstance(each, pulling.Refused):
                self._warn(name, f"{path} is not pulled: {each.why}")
            elif each.kept:
                text = (
                    f"{name}: {path} was changed on both sides: it stays, the container's is {self._short(each.kept)}"
                )
                self._say(notes.Note(text=text, service=name, level="warning"))
            else:
                come.append(path)
        if come:
            text = f"{name}: {notes.count(len(come))} pulled: {notes.some(come)}"
            self._say(notes.Note(text=text, service=name, level="batch"))

    def _warn(self, name: str, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(notes.Note(text=text, service=name, level="warning"))

    def _short(self, path: str) -> str:
        return rules.below(self._directory, path) or path
