"""``devenv image save``, ``load`` and ``import``: images as files, in and out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import typer

from devenv import errors
from devenv.cli import imaging, operate, options, terminal
from devenv.image import (
    archive,
    changes,
    create,
    gc,
    lease,
    loading,
    manifest,
    naming,
    platform,
    reference,
    saving,
    source,
)

Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Write to a file in place of stdout")]


def save_command(
    ctx: typer.Context,
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", show_default=False)],
    output: Output = "",
    for_platform: options.Platform = "",
) -> None:
    """Write images to one archive that docker, podman, skopeo and devenv load."""
    operate.refuse_dry_run(ctx.obj, "image save")
    opened = imaging.Images.open()
    machine = platform.machine(for_platform) if for_platform else None
    wanted = []
    with lease.Lease(opened.where) as held:
        for text in images:
            entry = opened.catalog.find(text)
            held.add(*gc.reach(opened.where, entry.stored.target).blobs)
            target = entry.stored.target
            if machine is not None:
                target = manifest.find([target], opened.catalog.read, what=f"image `{text}`", machine=machine).target
            tags = [tag for tag in entry.stored.tags if _is_called(reference.parse(tag), text)]
            wanted.append(saving.Wanted(target._replace(platform=None), tags))
        with written(output, what="an archive") as out:
            saving.write_archive(opened.where, wanted, out.write)


def _is_called(name: reference.Reference, text: str) -> bool:
    """By id, an image goes without its names, as in Docker."""
    with contextlib.suppress(errors.ImageError):
        return name == reference.parse(text)
    return False


@contextlib.contextmanager
def written(path: str, *, what: str) -> Iterator[BinaryIO]:
    """A file that appears when it is whole, or stdout."""
    if path in {"", "-"}:
        if terminal.is_terminal(sys.stdout):
            raise errors.UsageError(f"{what} is nothing for a terminal", hint="use `--output FILE` or a pipe")
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.isdir(path):
        raise errors.UsageError(f"`{path}` is a folder", hint=f"name the file, as `{path.rstrip('/')}/FILE`")
    if os.path.exists(path) and not os.path.isfile(path):
        # Such as /dev/null or a fifo: nothing to replace.
        with open(path, "wb") as special:
            yield special
        return
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        with open(temporary, "xb") as file:
            yield file
        os.rename(temporary, path)
    except OSError as exc:
        raise errors.UsageError(f"`{path}` can't be written: {exc.strerror}") from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


@contextlib.contextmanager
def given(path: str) -> Iterator[tuple[source.Source, str]]:
    """A file, or stdin for `-`; and what to call it."""
    if path not in {"", "-"}:
        try:
            source.File(path).open().close()
        except OSError as exc:
            raise errors.UsageError(f"`{path}` can't be read: {exc.strerror}") from exc
        except source.LayerError as exc:
            raise errors.UsageError(f"`{path}` {exc}") from exc
        yield source.File(path), path
        return
    if terminal.is_terminal(sys.stdin):
        raise errors.UsageError("there is nothing on stdin but a terminal", hint="name a file, or use a pipe")
    yield source.Pipe(0), "stdin"


def load_command(
    ctx: typer.Context,
    *,
    input: Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="Read a file in place of stdin")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of names that move")] = False,
) -> None:
    """Load the images of an archive, or a layout, that devenv, docker, podman or skopeo wrote."""
    operate.refuse_dry_run(ctx.obj, "image load")
    opened = imaging.Images.open()
    if input:
        loaded = loading.load(opened.where, input, what="archive")
    else:
        with given("-") as (pipe, _), archive.stage(opened.where) as folder:
            # It is read here and there, which a pipe can't be.
            with open(f"{folder}/stdin", "xb") as file, contextlib.closing(pipe.open()) as reader:
                while data := reader.read(1 << 20):
                    file.write(data)
            loaded = loading.load(opened.where, f"{folder}/stdin", what="archive")
    for each in loaded:
        if not quiet:
            imaging.warn_moved(each.moved)
        for tag in each.tags:
            print(f"Loaded image: {reference.parse(tag).familiar}")
        if not each.tags:
            entry = opened.catalog.matching(each.target.digest)
            print(f"Loaded image ID: {entry[0].id if entry else each.target.digest}")


def import_command(
    ctx: typer.Context,
    *,
    file: Annotated[str, typer.Argument(metavar="FILE|-", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="[REPOSITORY[:TAG]]", show_default=False)] = "",
    change: Annotated[
        list[str] | None, typer.Option("--change", "-c", metavar="INSTRUCTION", help="Such as 'CMD [\"sh\"]'")
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="What its history says")] = "",
    for_platform: options.Platform = "",
) -> None:
    """Make an image from an archive of files."""
    operate.refuse_dry_run(ctx.obj, "image import")
    if "://" in file:
        raise errors.UsageError(
            f"`{file}` is an address", hint=f"curl -L {file} | devenv image import - {name}".rstrip()
        )
    wanted = naming.target(name) if name else None
    config: changes.Config = {}
    changes.apply(config, change or ())
    architecture, variants = platform.architecture(platform.machine(for_platform) if for_platform else None)
    base = {"architecture": architecture, "os": "linux", "config": config}
    if variants[0] and for_platform:
        base["variant"] = variants[0]
    opened = imaging.Images.open()
    with given(file) as (files, shown), lease.Lease(opened.where) as held:
        taker = create.Taker(opened.store.blobs, held=held, what=f"`{shown}`")
        top = create.layer_from(taker, opened.where, files)
        step = {"created_by": "devenv image import", "comment": message or f"Imported from {shown}"}
        opened.keep(create.image(taker, base, (), top, step), wanted)
