"""``devenv image bootstrap``: a base image from the machine's own mirror of packages; no registry need be there."""

from __future__ import annotations

import shlex
import threading
from typing import Annotated

import typer

from devenv import errors, events
from devenv.cli import attached, imaging, operate
from devenv.cli.display import sink
from devenv.image import aptsources, archive, bootstrap, create, lease, naming, platform

# What is taken of a mirror that apt's configuration does not name.
COMPONENTS = {"debian": "main", "ubuntu": "main universe"}


def command(
    ctx: typer.Context,
    *,
    distribution: Annotated[str, typer.Argument(metavar="DISTRIBUTION", help="debian, ubuntu", show_default=False)],
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Such as bookworm", show_default=False)],
    tag: Annotated[str, typer.Option("--tag", "-t", metavar="REPOSITORY[:TAG]", help="What to call it")] = "",
    include: Annotated[
        list[str] | None, typer.Option("--include", metavar="PKG,...", help="Packages to install, too")
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", metavar="NAME", help=" or ".join(bootstrap.VARIANTS))
    ] = bootstrap.VARIANTS[0],
    mirror: Annotated[str, typer.Option("--mirror", metavar="URL", help="In place of apt's own sources")] = "",
) -> None:
    """Make a base image of Debian or Ubuntu from a mirror of packages, with mmdebstrap or debootstrap."""
    operate.refuse_dry_run(ctx.obj, "image bootstrap")
    if distribution not in COMPONENTS:
        raise errors.UsageError(f"`{distribution}` is none of {', '.join(COMPONENTS)}")
    name = naming.target(tag) if tag else None
    create.epoch()  # what is wrong with it shows now
    if mirror:
        sources = [aptsources.Source(mirror, suite, COMPONENTS[distribution])]
    else:
        sources = aptsources.of(distribution, suite)
    packages = [word for text in include or () for word in text.split(",") if word]
    wanted = bootstrap.Wanted(distribution, suite, sources, variant, packages)
    wanted.check()
    display = sink.choose(ctx.obj)
    shown = f"Image {tag or f'{distribution}:{suite}'}"

    def say(line: str, status: events.Status = events.Status.WORKING) -> None:
        text = "Bootstrapped" if status is events.Status.DONE else "Bootstrapping"
        display.show(events.Event(resource=shown, status=status, text=text, details=line))

    opened = imaging.Images.change()
    display.start("bootstrap")
    try:
        with (
            attached.gentle_end(threading.Event()),
            lease.Lease(opened.where) as held,
            archive.stage(opened.where) as folder,
        ):
            taker = create.Taker(opened.store.blobs, held=held, what=shown)
            top = bootstrap.layer(taker, opened.where, wanted, folder, say)
            step = {"created_by": shlex.join(["devenv", "image", "bootstrap", *_arguments(wanted)])}
            target = create.image(taker, _config(wanted), (), top, step)
            say("", events.Status.DONE)
            display.finish()
            opened.keep(target, name)
    finally:
        display.finish()


def _arguments(wanted: bootstrap.Wanted) -> list[str]:
    more = [f"--include={','.join(wanted.include)}"] if wanted.include else []
    return [wanted.distribution, wanted.suite, f"--variant={wanted.variant}", *more]


def _config(wanted: bootstrap.Wanted) -> dict[str, object]:
    return {
        "architecture": platform.architecture()[0],
        "os": "linux",
        "config": {
            "Cmd": ["bash"],
            "Env": [f"PATH={bootstrap.PATH}"],
            "Labels": {
                "org.opencontainers.image.title": wanted.distribution,
                "org.opencontainers.image.version": wanted.suite,
            },
        },
    }
