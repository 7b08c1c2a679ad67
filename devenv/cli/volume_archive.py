"""``devenv volume export``, ``import`` and ``clone``: what is in a volume, out, in and once more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated, BinaryIO, cast

import typer

from devenv import errors
from devenv.cli import image_archive, operate, terminal, voluming
from devenv.reconcile import jobs
from devenv.runtime import copyup, packing, unpacking
from devenv.util import paths
from devenv.volume import volume

Name = Annotated[str, typer.Argument(metavar="VOLUME", show_default=False)]


def export(ctx: typer.Context, *, name: Name, output: image_archive.Output = "") -> None:
    """Write what is in a volume to a tar archive."""
    operate.refuse_dry_run(ctx.obj, "volume export")
    where = voluming.change()
    owned = voluming.find(ctx, where, name)
    with _opened(where, owned) as path, image_archive.written(output, what="a tar archive") as out:
        packer = packing.Packer(out)
        packer.folder(path, "")
        packer.close()


def load(
    ctx: typer.Context,
    *,
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE|-", show_default=False)],
) -> None:
    """Unpack a tar archive, compressed or not, into a volume, which is made if it isn't there."""
    operate.refuse_dry_run(ctx.obj, "volume import")
    where = voluming.change()
    with image_archive.given(file) as (given, _), contextlib.closing(given.open()) as stream:
        owned = _found_or_made(ctx, where, name)
        if voluming.in_use(where, owned):
            raise errors.VolumeError(
                f"volume `{name}` is in use, and what runs would write between what comes in",
                hint="`devenv stop` the service first",
            )
        with _opened(where, owned) as path:
            unpacker = _unpack(cast(BinaryIO, stream), path)  # of a file it needs `read` alone
        jobs.forget(where, owned.project)
    for note in unpacker.notes:
        terminal.warn(note)


def _unpack(stream: BinaryIO, path: str) -> unpacking.Unpacker:
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpacker = unpacking.Unpacker(root, "/", unpacking.Policy(owners=True), rename=lambda name: name)
        unpacker.run(stream)
    except OSError as exc:
        raise errors.VolumeError(f"`{exc.filename}` can't be unpacked: {exc.strerror}") from exc
    finally:
        os.close(root)
    return unpacker


@contextlib.contextmanager
def _opened(where: paths.Paths, owned: voluming.Owned) -> Iterator[str]:
    if owned.volume.filesystem:
        raise errors.VolumeError(
            f"volume `{owned.volume.name}` is of type {owned.volume.filesystem}, which containers mount",
            hint="`devenv run` a service that mounts it",
        )
    if owned.volume.driver_opts:
        yield owned.volume.path
        return
    with voluming.opened(where, owned.project, owned.volume.name) as path:
        yield path


def _found_or_made(ctx: typer.Context, where: paths.Paths, name: str) -> voluming.Owned:
    with contextlib.suppress(errors.VolumeError):
        return voluming.find(ctx, where, name)
    return voluming.Owned(volume.SHARED, voluming.store(where, volume.SHARED).ensure(name))


def clone(
    ctx: typer.Context,
    *,
    name: Name,
    copy: Annotated[str, typer.Argument(metavar="NEW", show_default=False)],
) -> None:
    """Make a new volume with what another has; without copying data where the filesystem has reflinks."""
    operate.refuse_dry_run(ctx.obj, "volume clone")
    where = voluming.change()
    owned = voluming.find(ctx, where, name)
    store = voluming.store(where, owned.project)
    if store.get(copy) is not None:
        raise errors.VolumeError(f"volume `{copy}` is there already", hint=f"`devenv volume rm {copy}` removes it")
    if voluming.in_use(where, owned):
        terminal.warn(f"`{name}` is in use: what is written meanwhile may be in the copy by half")
    made = store.ensure(copy, labels=owned.volume.labels)
    with _opened(where, owned) as path:
        source = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copyup.fill(made.path, source)
        except OSError as exc:
            store.remove(copy)
            raise errors.VolumeError(f"volume `{name}` can't be copied: {exc.strerror}") from exc
        finally:
            os.close(source)
    print(made.name)
