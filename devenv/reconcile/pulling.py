"""Which images a request pulls, by each service's `pull_policy`, and what becomes of them on this machine.

    always                  each time
    missing, if_not_present when it is not here; what is meant where nothing is said
    never                   not at all
    daily, weekly, every_…  when it is not here, or nobody has looked for so long; without a network, what is here does
    refresh                 the same, with `pull_refresh_after`

What a service's `build:` makes is here by then, or can't be had: the command has built or pulled it (`cli.building`).

Everything that waits runs in threads of its own: the supervisor's loop goes on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from devenv import errors, events
from devenv.image import config as image_config
from devenv.image import reference
from devenv.image import store as image_store
from devenv.image.registry import errors as registry_errors
from devenv.reconcile import convert, locking
from devenv.spec import lockfile
from devenv.util import paths

if TYPE_CHECKING:
    from devenv.image.registry import client

ATONCE = 3  # images; each has several connections
# The digests of images that a dry run leaves where they are.
UNPULLED = "not pulled yet"
UNBUILT = "not built yet"

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SPANS = {"daily": _UNITS["d"], "weekly": _UNITS["w"]}
_SPAN = re.compile(r"(\d+)([wdhms])")

Emit = Callable[[events.Event], None]


class Wish(NamedTuple):
    """One image as a service wants it."""

    reference: str
    platform: str
    policy: str
    span: float | None  # seconds, of a policy that looks again after a time
    buildable: bool
    service: str
    shown: str = ""  # what people call it, where the reference has a lock's digest


def wish(name: str, service: convert.Service, *, override: str = "") -> Wish:
    """``override`` is what `--pull` says; `policy` leaves it to the service."""
    buildable = bool(service.get("build"))
    policy = str(service.get("pull_policy") or "missing")
    if override and override != "policy":
        policy = override
    if buildable or policy == "build":
        policy = "never"
    text = str(service.get("image") or "")
    if not text:
        raise errors.ContainerError(f"service `{name}` has neither `image` nor `build`")
    return Wish(
        reference=text,
        platform=str(service.get("platform") or ""),
        policy=policy,
        span=_span(policy, str(service.get("pull_refresh_after") or "")),
        buildable=buildable,
        service=name,
    )


def _span(policy: str, refresh_after: str) -> float | None:
    if policy in _SPANS:
        return _SPANS[policy]
    text = refresh_after if policy == "refresh" else policy
    if policy != "refresh" and not policy.startswith("every_"):
        return None
    return sum((int(count) * _UNITS[unit] for count, unit in _SPAN.findall(text)), 0.0)


def follows(wanted: Wish) -> bool:
    """Whether it is to be what its name means in the registry, now or every now and then: the lock follows, too."""
    return wanted.policy == "always" or wanted.span is not None


def is_due(wanted: Wish, checked: float | None, now: float) -> bool:
    """Whether to look in the registry; ``checked`` is when somebody last did, None if the image is not here."""
    if wanted.policy == "always":
        return True
    if wanted.policy == "never":
        return False
    if checked is None:
        return True
    return wanted.span is not None and now - checked >= wanted.span


class Images:
    """Those of one request. ``environ`` is the asking command's: its login, its proxies."""

    def __init__(
        self,
        where: paths.Paths,
        store: image_store.ImageStore,
        environ: Mapping[str, str],
        *,
        emit: Emit,
        lock: locking.Lock,
        dry_run: bool = False,
    ) -> None:
        """``lock``: its digests win over what names mean in a registry today."""
        self._lockfile = lock
        self._where = where
        self._store = store
        self._environ = environ
        self._emit = emit
        self._dry_run = dry_run
        self._lock = threading.Lock()
        self._client: client.Client | None = None
        self._aborted = False
        self._threads = concurrent.futures.ThreadPoolExecutor(ATONCE, thread_name_prefix="pull")

    async def obtain_all(self, wishes: Sequence[Wish], *, base: str) -> dict[Wish, image_store.Image]:
        """For each wish. What several want is had once. Cancelled, it ends what is under way. For once."""
        unique: dict[tuple[str, str], Wish] = {}
        for each in sorted(wishes, key=lambda each: each.policy != "always"):
            # Who wants it anew decides for all who want it.
            unique.setdefault((each.reference, each.platform), each)
        running = asyncio.get_running_loop()
        told = self._emit

        # Events come from threads, and are told in the loop's.
        def emit(event: events.Event) -> None:
            running.call_soon_threadsafe(told, event)

        self._emit = emit

        async def obtain(each: Wish) -> image_store.Image:
            work = running.run_in_executor(self._threads, functools.partial(self.obtain, each, base=base))
            return await self._preparing(each, work)

        try:
            images = await asyncio.gather(*map(obtain, unique.values()))
        except BaseException:
            self._abort()
            raise
        finally:
            self._close()
        if not self._dry_run:
            lockable = {each.reference: follows(each) for each in wishes if not each.buildable}
            try:
                await running.run_in_executor(None, self._lockfile.keep, lockable)
            except locking.Unwritable as exc:
                # A checkout may be read-only, and its services run all the same.
                told(
                    events.Event(
                        resource=f"Lock {lockfile.NAME}",
                        status=events.Status.WARNING,
                        text="Note",
                        details=exc.message,
                        time=time.time(),
                    )
                )
        found = dict(zip(unique, images, strict=True))
        return {each: found[each.reference, each.platform] for each in wishes}

    async def _preparing(self, wanted: Wish, work: asyncio.Future[image_store.Image]) -> image_store.Image:
        """Only what takes a moment is worth a line. A pull has lines of its own."""
        if reference.parse(wanted.reference).transport is not reference.Transport.REGISTRY:
            done, _ = await asyncio.wait({work}, timeout=0.2)
            if not done:
                self._tell(wanted, events.Status.WORKING, "Preparing")
                await asyncio.wait({work})
                if work.exception() is None:
                    self._tell(wanted, events.Status.DONE, "Prepared")
        return await work

    def obtain(self, wanted: Wish, *, base: str) -> image_store.Image:
        """Blocks for as long as it takes. Raises ``ImageError`` or ``BuildError``."""
        pinned = wanted._replace(reference=self.pinned(wanted), shown=wanted.reference)
        return dataclasses.replace(self._obtain(pinned, base=base), reference=wanted.reference)

    def pinned(self, wanted: Wish) -> str:
        """Its reference, with the digest that the lock says."""
        if wanted.buildable or (follows(wanted) and not self._lockfile.frozen):
            return wanted.reference
        return self._lockfile.pinned(wanted.reference)

    def _obtain(self, wanted: Wish, *, base: str) -> image_store.Image:
        parsed = reference.parse(wanted.reference)
        if parsed.transport is not reference.Transport.REGISTRY:
            return self._store.resolve(wanted.reference, base=base)
        if follows(wanted) and not self._dry_run:
            self._refresh(wanted, parsed)
        try:
            return self._store.resolve(wanted.reference, base=base, wanted_platform=wanted.platform)
        except image_store.Missing as exc:
            if wanted.buildable:
                return self._unbuilt(wanted)
            if wanted.policy == "never":
                exc.hint = (
                    f"its `pull_policy` is `never`; to have it all the same: devenv image pull {wanted.reference}"
                )
                raise
        if self._dry_run:
            return image_store.Image(wanted.reference, UNPULLED, image_config.ImageConfig(), ())
        self._pull(wanted)
        return self._store.resolve(wanted.reference, base=base, wanted_platform=wanted.platform)

    def _refresh(self, wanted: Wish, parsed: reference.Reference) -> None:
        if parsed.digest:
            return  # what a digest names does not change
        checked = self._store.index.checked(f"{parsed.registry}/{parsed.repository}:{parsed.tag}")
        if not is_due(wanted, checked, time.time()):
            return
        try:
            self._pull(wanted)
        except (registry_errors.Unreachable, registry_errors.RateLimited) as exc:
            if checked is None or wanted.span is None:
                raise
            self._tell(wanted, events.Status.WARNING, "Kept", exc.message)

    def _pull(self, wanted: Wish) -> None:
        # HTTP and TLS cost 25 ms that a supervisor without anything to pull shall not pay.
        from devenv.image import pull

        puller = pull.Puller(self._where, self._store, self._talk(), emit=self._emit)
        try:
            puller.pull(wanted.reference, wanted_platform=wanted.platform, service=wanted.service, shown=wanted.shown)
        except registry_errors.NotFound as exc:
            if wanted.shown != wanted.reference:
                exc.hint = f"it is locked; to take what `{wanted.shown}` is now: devenv upgrade {wanted.service}"
            raise

    def _unbuilt(self, wanted: Wish) -> image_store.Image:
        if self._dry_run:
            return image_store.Image(wanted.reference, UNBUILT, image_config.ImageConfig(), ())
        raise errors.BuildError(
            f"the image `{wanted.shown}` of service `{wanted.service}` is not built",
            hint=f"devenv build {wanted.service}",
        )

    def _talk(self) -> client.Client:
        from devenv.image.registry import client

        with self._lock:
            if self._client is None:
                self._client = client.Client(self._environ)
            if self._aborted:
                self._client.abort()
            return self._client

    def _tell(self, wanted: Wish, status: events.Status, text: str, details: str = "") -> None:
        resource = f"Image {wanted.reference}"
        self._emit(
            events.Event(
                resource=resource, status=status, text=text, details=details, service=wanted.service, time=time.time()
            )
        )

    def _abort(self) -> None:
        with self._lock:
            self._aborted = True
            if self._client is not None:
                self._client.abort()

    def _close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._client is not None:
                self._client.close()
