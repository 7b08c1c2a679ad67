"""``devenv config``: the spec as devenv understands it, or one aspect of it, one a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devenv import errors
from devenv.cli import context, options, table, terminal

if TYPE_CHECKING:
    from devenv.spec import loader

Flag = typer.Option


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    format: Annotated[str, Flag("--format", metavar="FORMAT", help="yaml or json")] = "",
    quiet: Annotated[bool, Flag("--quiet", "-q", help="Only check")] = False,
    list_services: Annotated[bool, Flag("--services", help="Print the names of services")] = False,
    list_volumes: Annotated[bool, Flag("--volumes", help="Print the names of volumes")] = False,
    list_networks: Annotated[bool, Flag("--networks", help="Print the names of networks")] = False,
    list_models: Annotated[bool, Flag("--models", help="Print the names of AI models")] = False,
    list_profiles: Annotated[bool, Flag("--profiles", help="Print the names of profiles")] = False,
    list_images: Annotated[bool, Flag("--images", help="Print the names of images")] = False,
    hash: Annotated[str, Flag("--hash", metavar="SERVICES", help="Print config digests: a,b or '*'")] = "",
    environment: Annotated[bool, Flag("--environment", help="Print the variables that ${…} sees")] = False,
    variables: Annotated[bool, Flag("--variables", help="Print the variables that the spec mentions")] = False,
    no_interpolate: Annotated[bool, Flag("--no-interpolate", help="Leave ${…} as it is")] = False,
    no_normalize: Annotated[bool, Flag("--no-normalize", help="Leave out what is implied")] = False,
    no_path_resolution: Annotated[bool, Flag("--no-path-resolution", help="Leave paths as they are")] = False,
    no_consistency: Annotated[bool, Flag("--no-consistency", help="Don't check that the parts agree")] = False,
    no_env_resolution: Annotated[bool, Flag("--no-env-resolution", help="Leave env_file as it is")] = False,
    output: Annotated[str, Flag("--output", "-o", metavar="FILE", help="Write to a file")] = "",
    schema: Annotated[bool, Flag("--schema", help="Print the JSON Schema of the spec")] = False,
) -> None:
    """Check the spec and print it as devenv understands it."""
    if schema:
        from devenv.spec import schema as schemas

        _write(schemas.text(), output)
        return
    options.one_of("--format", format or "yaml", ("yaml", "json", *(("table",) if variables else ())))
    given: options.Globals = ctx.obj
    if no_interpolate or variables:
        _uninterpolated(given, variables=variables, format=format, output=output, services=services, quiet=quiet)
        return
    listing = list_services or list_volumes or list_networks or list_models or list_profiles or list_images
    loaded = _load(
        given,
        services=tuple(services or ()),
        normalise=not no_normalize,
        resolve_paths=not no_path_resolution,
        check=not no_consistency,
        resolve_env=not (no_env_resolution or listing),
        extensions=(format or "yaml") == "yaml",
    )
    spec = loaded.canonical
    if services and not listing and not environment:
        spec = _narrowed(spec, services, set(loaded.disabled))
    if list_services:
        _lines(_in_order(spec["services"]))
    elif list_volumes:
        _lines(spec.get("volumes") or ())
    elif list_networks:
        _lines(spec.get("networks") or ())
    elif list_models:
        _lines(model["model"] for model in (spec.get("models") or {}).values())
    elif list_profiles:
        every = (*spec["services"].values(), *loaded.disabled.values())
        _lines(sorted({profile for service in every for profile in service.get("profiles") or ()}))
    elif list_images:
        _lines(service.get("image") or f"{spec['name']}-{name}" for name, service in spec["services"].items())
    elif hash:
        _hashes(spec, hash)
    elif environment:
        _lines(f"{name}={value}" for name, value in sorted(loaded.environment.items()))
    elif not quiet:
        _write(_rendered(spec, format or "yaml"), output)


def _load(given: options.Globals, **more: Any) -> loader.Loaded:
    from devenv.spec import loader

    loaded = loader.load(context.load_options(given, **more))
    for warning in loaded.warnings:
        terminal.warn(warning)
    return loaded


def _rendered(spec: dict[str, Any], format: str) -> str:
    from devenv.spec import render

    return render.to_json(spec) + "\n" if format == "json" else render.to_yaml(render.yaml_view(spec))


def _narrowed(spec: dict[str, Any], names: list[str], disabled: set[str]) -> dict[str, Any]:
    """The named services and what they depend on."""
    from devenv.spec import profiles

    every = spec["services"]
    context.check_services(names, {*every, *disabled}, spec["name"])
    wanted: dict[str, Any] = {}
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in every and name not in wanted:
            wanted[name] = every[name]
            queue += every[name].get("depends_on") or ()
    narrowed = {**spec, "services": dict(sorted(wanted.items()))}
    profiles.prune(narrowed)
    return narrowed


def _in_order(services: dict[str, Any]) -> list[str]:
    """What others depend on comes first, else in the order of names."""
    found: dict[str, None] = {}

    def add(name: str, trail: tuple[str, ...]) -> None:
        if name in found or name in trail or name not in services:
            return
        for dependency in sorted(services[name].get("depends_on") or ()):
            add(dependency, (*trail, name))
        found[name] = None

    for name in sorted(services):
        add(name, ())
    return list(found)


def _hashes(spec: dict[str, Any], names: str) -> None:
    from devenv.spec import digest

    chosen = list(spec["services"]) if names == "*" else [name.strip() for name in names.split(",") if name.strip()]
    context.check_services(chosen, spec["services"], spec["name"])
    _lines(f"{name} {digest.service_digest(spec['services'][name], project=spec)}" for name in sorted(chosen))


def _uninterpolated(
    given: options.Globals, *, variables: bool, format: str, output: str, services: list[str] | None, quiet: bool
) -> None:
    from devenv.spec import diagnostic, interpolate, loader, render

    if services:
        terminal.warn("the whole spec is shown: services can't be chosen without variables filled in")
    report = diagnostic.Report()
    read = loader.read_model(context.load_options(given, interpolate=False), report)
    for warning in report.warnings:
        terminal.warn(warning)
    if not variables:
        if not quiet:
            text = json.dumps(read.spec, indent=2, ensure_ascii=False) + "\n" if format == "json" else ""
            _write(text or render.to_yaml(read.spec, escape=False), output)
        return
    found = sorted(interpolate.variables(read.spec).values())
    named: dict[str, dict[str, Any]] = {
        item.name: {
            "Name": item.name,
            "DefaultValue": item.default,
            "PresenceValue": item.alternate,
            "Required": item.required,
        }
        for item in found
    }
    if format == "json":
        _write(json.dumps(named, indent=2) + "\n", output)
    elif format == "yaml":
        lowered: dict[str, Any] = {
            name: {key.lower(): value for key, value in item.items()} for name, item in named.items()
        }
        _write(render.to_yaml(lowered, escape=False), output)
    else:
        rows = [[item.name, str(item.required).lower(), item.default, item.alternate] for item in found]
        _write(table.render(["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"], rows), output)


def _lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _write(text: str, output: str) -> None:
    if not output:
        sys.stdout.write(text)
        return
    try:
        with open(os.path.join(context.current_folder(), output), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise errors.UsageError(f"can't write `{output}`: {error.strerror}") from error
