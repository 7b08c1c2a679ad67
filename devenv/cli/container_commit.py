"""``devenv commit`` and ``devenv container commit``: what a container has changed becomes the top layer of an image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import container_inspect, containing, context, imaging, inventory, operate, options, terminal
from devenv.cli.display import sink
from devenv.image import catalog, changes, create, descriptor, lease, loading, naming, pack, reference, snapshot
from devenv.runtime import bundle

_ANY = frozenset({"running", "paused", "restarting", "created", "exited"})

Name = Annotated[str, typer.Argument(metavar="[REPOSITORY[:TAG]]", show_default=False)]
Author = Annotated[str, typer.Option("--author", "-a", metavar="TEXT", help="Such as 'Ann <ann@example.org>'")]
Change = Annotated[
    list[str] | None, typer.Option("--change", "-c", metavar="INSTRUCTION", help="Such as 'CMD [\"sh\"]'")
]
Message = Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="What its history says")]
Pause = Annotated[bool, typer.Option("--pause/--no-pause", "-p", help="Let the container stand still meanwhile")]


def command(
    ctx: typer.Context,
    *,
    service: options.Service,
    name: Name = "",
    author: Author = "",
    change: Change = None,
    index: options.Index = 0,
    message: Message = "",
    pause: Pause = True,
) -> None:
    """Make an image of what a service's container has changed."""
    operate.refuse_dry_run(ctx.obj, "commit")
    project = context.find(ctx.obj)
    project.check_services([service])
    item = inventory.pick(inventory.load(project.where, project.identity.id), service, index, states=_ANY)
    _commit(ctx.obj, item, name, author=author, change=change, message=message, pause=pause)


def by_name(
    ctx: typer.Context,
    *,
    container: Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)],
    name: Name = "",
    author: Author = "",
    change: Change = None,
    message: Message = "",
    pause: Pause = True,
) -> None:
    """Make an image of what a container has changed. What is in volumes is not in it."""
    operate.refuse_dry_run(ctx.obj, "container commit")
    item = containing.find(inventory.load(imaging.Images.open().where), container)
    _commit(ctx.obj, item, name, author=author, change=change, message=message, pause=pause)


def _commit(
    given: options.Globals,
    item: inventory.Container,
    name: str,
    *,
    author: str,
    change: list[str] | None,
    message: str,
    pause: bool,
) -> None:
    wanted = naming.target(name) if name else None
    changes.apply({}, change or ())  # what is wrong with them shows before anything stands still
    where = imaging.Images.open().where
    with _standing_still(given, containing.Home(where, item), item, wanted=pause):
        opened = imaging.Images.change()
        with lease.Lease(opened.where) as held:
            base = _base(opened, item)
            held.add(base.target.digest, base.manifest.config.digest)
            held.add(*(each.digest for each in base.manifest.layers))
            target = _make(opened, base, item, held, author=author, change=change, message=message)
            opened.keep(target, wanted)


def _make(
    opened: imaging.Images,
    base: catalog.Entry,
    item: inventory.Container,
    held: lease.Lease,
    *,
    author: str,
    change: list[str] | None,
    message: str,
) -> descriptor.Descriptor:
    made = item.record
    bundled = bundle.load(item.folder, name=made.name)
    taker = create.Taker(opened.store.blobs, held=held, what=f"container `{made.name}`")
    stream = pack.chunks(
        container_inspect.overlays(bundled)[0]["upper"],
        opaque=snapshot.opaque_attribute(),
        mounted=pack.mounted(bundled.get("mounts") and [{"target": each["destination"]} for each in bundled["mounts"]]),
    )
    top = create.layer_of(taker, opened.where, stream)
    config: dict[str, Any] = dict(base.config.get("config") or {})
    changes.apply(config, change or ())
    step = {
        "created_by": " ".join(made.command),
        **({"author": author} if author else {}),
        **({"comment": message} if message else {}),
    }
    return create.image(taker, {**base.config, "config": config}, base.manifest.layers, top, step)


def _base(opened: imaging.Images, item: inventory.Container) -> catalog.Entry:
    """The image that it runs, in the store; one that lies on the disk is loaded first. Raises ``ImageError``."""
    made = item.record
    found = next((each for each in opened.catalog.entries() if each.id == made.image_id), None)
    if found is not None:
        return found
    wanted = reference.parse(made.image)
    if wanted.transport in {reference.Transport.HOST, reference.Transport.ROOTFS}:
        raise errors.ImageError(
            f"container `{made.name}` runs `{made.image}`, which has no layers to go on from",
            hint=f"devenv container export {made.name} | devenv image import - NAME",
        )
    if wanted.transport is not reference.Transport.REGISTRY:
        path = wanted.path if wanted.path.startswith("/") else f"{made.project_dir}/{wanted.path}"
        loading.load(opened.where, path, what=f"image `{made.image}`")
        found = next((each for each in opened.catalog.entries() if each.id == made.image_id), None)
    if found is None:
        raise errors.ImageError(
            f"the image of container `{made.name}` is not here any more",
            hint=f"devenv container export {made.name} | devenv image import - NAME",
        )
    return found


@contextlib.contextmanager
def _standing_still(
    given: options.Globals, home: containing.Home, item: inventory.Container, *, wanted: bool
) -> Iterator[None]:
    if not wanted or item.state != "running":
        yield
        return
    supervisor = operate.ensure(home)
    quiet = sink.choose(given._replace(progress=options.Progress.QUIET))
    try:
        operate.request(supervisor, "pause", {"containers": [item.record.id]}, show=quiet)
    except errors.DevenvError as exc:
        # Without a freezer cgroup, as an ordinary user may be.
        terminal.warn(f"`{item.record.name}` runs on meanwhile: {exc.message}")
        yield
        return
    try:
        yield
    finally:
        operate.request(supervisor, "unpause", {"containers": [item.record.id]}, show=quiet)
