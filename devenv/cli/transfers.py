"""Pulling and pushing in the command's own process: no project and no supervisor need be there.

Several images at once, each with a line of its own. Ctrl-C ends what is under way; what has arrived is kept for the
next attempt.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from devenv import errors, events
from devenv.cli import operate, settings, terminal
from devenv.cli.display import sink
from devenv.image import pull, reference, store
from devenv.image.registry import client
from devenv.supervisor import engine, launch
from devenv.util import paths

if TYPE_CHECKING:
    from devenv.image import push

ATONCE = 3
_WAIT = 0.5
T = TypeVar("T")


class Transfers:
    """``with Transfers(given, title="pull") as transfers``"""

    def __init__(self, given: settings.Globals, *, title: str, quiet: bool = False) -> None:
        self._where = where = paths.locate()
        # A process with threads can't change its user namespace: this comes first.
        launch.make_folders(where)
        engine.share_user_namespace(where)
        self._display = sink.choose(given._replace(progress=settings.Progress.QUIET) if quiet else given)
        self._title = title
        self._client = client.Client(os.environ)
        self.store = store.ImageStore(where)
        self.puller = pull.Puller(where, self.store, self._client, emit=self._show)

    def __enter__(self) -> Transfers:
        self._display.start(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        self._display.finish()
        self._client.close()
        self.store.close()

    @property
    def pusher(self) -> push.Pusher:
        from devenv.image import push

        return push.Pusher(self._where, self.store, self._client, emit=self._show)

    def say(self, resource: str, status: events.Status, text: str, details: str = "", *, service: str = "") -> None:
        self._show(events.Event(resource=resource, status=status, text=text, details=details, service=service))

    def all(self, jobs: Iterable[Callable[[], T]]) -> list[T | errors.DevenvError]:
        """What each came to, in order."""
        with concurrent.futures.ThreadPoolExecutor(ATONCE, thread_name_prefix="transfer") as threads:
            work: list[concurrent.futures.Future[T | errors.DevenvError]] = []
            try:
                for job in jobs:  # Ctrl-C may come before the last has begun
                    work.append(threads.submit(_tried, job))
                # Python handles a signal that came just before a wait when that is over: it must not be a long one.
                while concurrent.futures.wait(work, timeout=_WAIT).not_done:
                    pass
                return [each.result() for each in work]
            except BaseException:
                for each in work:
                    each.cancel()
                self._client.abort()
                raise

    def _show(self, event: events.Event) -> None:
        self._display.show(event)


def _tried(job: Callable[[], T]) -> T | errors.DevenvError:
    try:
        return job()
    except errors.DevenvError as exc:
        return exc


def raise_first(found: Iterable[object]) -> None:
    """The first failure, with the others in its note."""
    failed = [each for each in found if isinstance(each, errors.DevenvError)]
    if failed:
        first, *others = failed
        lines = [first.note] if first.note else []
        first.note = "\n".join([*lines, *(f"also: {each.message}" for each in others)]) or None
        raise first


def pull_image(
    given: settings.Globals, image: str, *, all_tags: bool = False, platform: str = "", quiet: bool = False
) -> None:
    """``devenv image pull``, whose names it prints."""
    operate.refuse_dry_run(given, "image pull")
    wanted = reference.parse(image)
    if wanted.transport is not reference.Transport.REGISTRY:
        raise errors.UsageError(f"image `{image}` is on this machine: there is nothing to pull")
    if all_tags and (wanted.digest or not str(wanted).endswith(":latest") or image.endswith(":latest")):
        raise errors.UsageError("`--all-tags` takes a repository, without a tag or digest")
    with Transfers(given, title="pull", quiet=quiet) as running:
        names = [wanted.familiar]
        if all_tags:
            names = [wanted._replace(tag=tag).familiar for tag in running.puller.tags(wanted)]
        pulled = running.all(functools.partial(running.puller.pull, name, wanted_platform=platform) for name in names)
    raise_first(pulled)
    for name in names:
        print(terminal.visible(str(reference.parse(name))))
