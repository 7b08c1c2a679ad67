"""``devenv image build``: one Dockerfile, with docker's flags."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.build import request, result
from devenv.cli import buildflags, frontend, operate, settings, terminal
from devenv.reconcile import building

Texts = list[str] | None


def command(
    ctx: typer.Context,
    *,
    path: Annotated[str, typer.Argument(metavar="PATH|URL|-", help="The context", show_default=False)] = ".",
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="The Dockerfile; - for stdin")] = "",
    tag: Annotated[Texts, typer.Option("--tag", "-t", metavar="NAME", help="What to call it")] = None,
    target: Annotated[str, typer.Option("--target", metavar="STAGE", help="The stage to build")] = "",
    build_arg: Annotated[Texts, typer.Option("--build-arg", metavar="KEY=VALUE", help="Set an ARG")] = None,
    build_context: Annotated[
        Texts, typer.Option("--build-context", metavar="NAME=PATH", help="Another context, or an image")
    ] = None,
    secret: Annotated[
        Texts, typer.Option("--secret", metavar="id=ID,src=FILE", help="For `RUN --mount=type=secret`")
    ] = None,
    ssh: Annotated[Texts, typer.Option("--ssh", metavar="ID[=KEY]", help="For `RUN --mount=type=ssh`")] = None,
    label: Annotated[Texts, typer.Option("--label", metavar="KEY=VALUE", help="Label of the image")] = None,
    platform: Annotated[Texts, typer.Option("--platform", metavar="PLATFORM", help="As linux/arm64; several")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do every step again")] = False,
    no_cache_filter: Annotated[
        Texts, typer.Option("--no-cache-filter", metavar="STAGE", help="Do these stages' steps again")
    ] = None,
    cache_from: Annotated[
        Texts, typer.Option("--cache-from", metavar="type=…", help="Where else steps may have been done")
    ] = None,
    cache_to: Annotated[Texts, typer.Option("--cache-to", metavar="type=…", help="Where to put the cache")] = None,
    output: Annotated[
        Texts, typer.Option("--output", "-o", metavar="DIR|type=…", help="Write files or an archive")
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Look for newer images to build upon")] = False,
    push: Annotated[bool, typer.Option("--push", help="Push what was built")] = False,
    load: Annotated[bool, typer.Option("--load", help="Into the store; what is done without `--output`")] = False,
    iidfile: Annotated[str, typer.Option("--iidfile", metavar="FILE", help="Write the image's id to a file")] = "",
    metadata_file: Annotated[
        str, typer.Option("--metadata-file", metavar="FILE", help="Write what came of it to a file, as JSON")
    ] = "",
    network: Annotated[str, typer.Option("--network", metavar="MODE", help="default, none or host")] = "",
    add_host: Annotated[Texts, typer.Option("--add-host", metavar="NAME:ADDRESS", help="For /etc/hosts")] = None,
    shm_size: Annotated[str, typer.Option("--shm-size", metavar="SIZE", help="Size of /dev/shm")] = "",
    ulimit: Annotated[Texts, typer.Option("--ulimit", metavar="NAME=SOFT[:HARD]", help="Limit of steps")] = None,
    allow: Annotated[
        Texts, typer.Option("--allow", metavar="ENTITLEMENT", help="network.host, security.insecure or device")
    ] = None,
    call: Annotated[str, typer.Option("--call", metavar="METHOD", help="build, check, outline or targets")] = "build",
    check: Annotated[bool, typer.Option("--check", help="Same as --call=check")] = False,
    debug: Annotated[bool, typer.Option("--debug", "-D", help="Open a shell where a step fails")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; print the image's id")] = False,
    progress: Annotated[
        settings.Progress | None, typer.Option(help="How progress is shown", show_default=False)
    ] = None,
    provenance: Annotated[str, typer.Option("--provenance", metavar="MODE", help="Not written yet")] = "",
    sbom: Annotated[str, typer.Option("--sbom", metavar="MODE", help="Not written yet")] = "",
    attest: Annotated[Texts, typer.Option("--attest", metavar="type=…", help="Not written yet")] = None,
    builder: Annotated[str, typer.Option("--builder", metavar="NAME", help="There is one: devenv itself")] = "",
    rm: Annotated[bool, typer.Option("--rm/--no-rm", hidden=True)] = True,
    force_rm: Annotated[bool, typer.Option("--force-rm/--no-force-rm", hidden=True)] = False,
    compress: Annotated[bool, typer.Option("--compress/--no-compress", hidden=True)] = False,
) -> int:
    """Build an image from a Dockerfile."""
    given: settings.Globals = ctx.obj
    if progress is not None:
        given = given._replace(progress=progress)
    for option, value in (("--provenance", provenance), ("--sbom", sbom), ("--attest", ",".join(attest or ()))):
        if value.lower() not in {"", "false"}:
            terminal.warn(f"`{option}` has no effect: devenv writes no attestations")
    if network not in {"", *building.NETWORKS}:
        raise errors.UsageError(f"`--network {network}` is not understood; it is default, none or host")
    method, as_json = frontend.parse("check" if check else call)
    here = os.getcwd()
    with _context(path, file) as (context, inline, dockerfile):
        asked = request.Request(
            context=context,
            dockerfile=dockerfile,
            inline=inline,
            target=target,
            arguments=building.arguments(build_arg or ()),
            contexts=dict(buildflags.context(text, here) for text in build_context or ()),
            platforms=tuple(part for text in platform or () for part in text.split(",") if part),
            labels={key: value or "" for key, value in building.arguments(label or ()).items()},
            tags=tuple(dict.fromkeys(building.tag(text) for text in tag or ())),
            secrets=tuple(buildflags.secret(text, here) for text in secret or ()),
            ssh=tuple(building.agent(text, base=here) for text in ssh or ()),
            extra_hosts=tuple(building.host(text) for text in add_host or ()),
            network=network,
            shm_size=buildflags.size(shm_size, option="--shm-size"),
            ulimits=tuple(buildflags.ulimit(text) for text in ulimit or ()),
            entitlements=buildflags.entitlements(allow or (), network),
            cache_from=tuple(building.exchange(text, base=here) for text in cache_from or ()),
            cache_to=tuple(building.exchange(text, base=here) for text in cache_to or ()),
            no_cache=no_cache,
            no_cache_stages=frozenset(part for text in no_cache_filter or () for part in text.split(",")),
            pull=pull,
            outputs=buildflags.outputs(output or (), here, load=load),
            push=push or any("push=true" in text or "type=registry" in text for text in output or ()),
            debug=debug,
            environ=dict(os.environ),
        )
        if method != "build":
            return frontend.call(method, [asked], as_json=as_json)
        operate.refuse_dry_run(given, "image build")
        built = _build(given, asked, quiet=quiet)
    if iidfile:
        _write(iidfile, built.id)
    if metadata_file:
        _write(metadata_file, json.dumps(metadata(built), indent=2))
    return 0


def _build(given: settings.Globals, asked: request.Request, *, quiet: bool) -> result.Result:
    from devenv.cli import building as builds

    with builds.Site(given, quiet=quiet) as site:
        [built] = site.solve([asked])
        site.say([("", built)])
    if quiet and built.id:
        print(built.id)
    return built


def metadata(built: result.Result) -> dict[str, Any]:
    """With buildx' names."""
    from devenv.image import reference

    found: dict[str, Any] = {"containerimage.config.digest": built.id} if built.id else {}
    if built.target is not None:
        target = built.target
        found["containerimage.descriptor"] = {
            "mediaType": target.media_type,
            "digest": target.digest,
            "size": target.size,
        }
        found["containerimage.digest"] = target.digest
    if built.tags:
        found["image.name"] = ",".join(str(reference.parse(tag)) for tag in built.tags)
    return found


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise errors.UsageError(f"`{path}` can't be written: {exc.strerror}") from exc


@contextlib.contextmanager
def _context(path: str, file: str) -> Iterator[tuple[str, str | None, str]]:
    """The context, the Dockerfile's text if it is not one of its files, and its path if it is."""
    if path == "-":
        if file == "-":
            raise errors.UsageError("the context and the Dockerfile can't both be on stdin")
        with buildflags.from_stdin() as (folder, inline):
            yield folder, inline, f"{folder}/{file}" if file else ""
        return
    inline = None
    if file == "-":
        if terminal.is_terminal(sys.stdin):
            raise errors.UsageError("there is no Dockerfile on stdin but a terminal", hint="use a pipe, or name a file")
        inline, file = sys.stdin.buffer.read().decode(errors="surrogateescape"), ""
    if buildflags.is_remote(path):
        yield path, inline, file
        return
    folder = os.path.abspath(path)
    if not os.path.isdir(folder):
        raise errors.UsageError(f"the context `{path}` is no folder")
    yield folder, inline, os.path.abspath(file) if file and "://" not in file else file
