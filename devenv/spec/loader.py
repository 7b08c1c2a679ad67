"""From files to a checked project: the phases in their order.

    find files and variables      files, dotenv
    for each file: read           source
                   fill in ${…}   interpolate
                   include        includes
                   extend         extends
                   merge          merge
                   check shape    shape (by grammar)
                   long forms     forms
    defaults, structure, paths    forms, validate, paths
    what is implied               normalise
    one type, one spelling        tables, canonical
    profiles, env files           here
    references, conflicts         validate
    objects                       model

``load`` depends on nothing but its options and the files they lead to. It raises ``SpecError``, whatever is in them.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic

from devenv import errors
from devenv.spec import (
    autoports,
    canonical,
    diagnostic,
    dotenv,
    files,
    forms,
    interpolate,
    model,
    normalise,
    profiles,
    reader,
    source,
    tables,
    validate,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    files: Sequence[str] = ()
    project_directory: str | None = None
    project_name: str | None = None
    profiles: Sequence[str] = ()
    env_files: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    services: Sequence[str] = ()  # named ones activate their profiles
    stdin: bytes | None = None  # what `-f -` reads; None: the process's own
    interpolate: bool = True
    normalise: bool = True
    resolve_paths: bool = True
    check: bool = True  # consistency
    resolve_env: bool = True
    all_resources: bool = False  # also those that no service uses
    extensions: bool = False  # keep nested `x-…`
    # Whether a `runtime:` is on this machine; None where that is of no interest.
    has_runtime: Callable[[str], bool] | None = None
    runtime_hint: str = ""
    # Name, folder, wishes -> host ports, for `ports: auto`; None leaves them as they are written.
    allot: Callable[[str, str, Sequence[autoports.Wish]], autoports.Chosen] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    project: model.Project
    canonical: dict[str, Any]
    warnings: list[str]
    files: list[str]
    environment: dict[str, str]  # what `${…}` saw
    disabled: dict[str, Any]  # canonical services of profiles that are not enabled
    sources: tuple[str, ...] = ()  # all files that it depends on, whether they are there or not


def load(options: LoadOptions) -> Loaded:
    # Loading allocates much and frees nothing: the collector would walk it all for nothing.
    enabled = gc.isenabled()
    gc.disable()
    try:
        if "-" in options.files and options.stdin is None:
            # It may be read twice.
            options = dataclasses.replace(options, stdin=sys.stdin.buffer.read())
        loaded = _load(options)
        auto = autoports.is_auto(loaded.canonical, options.environ.get("DEVENV_PORTS", ""))
        if not auto and not any(autoports.PREFIX in warning for warning in loaded.warnings):
            return loaded
        return _with_ports(options, loaded, auto=auto)
    finally:
        if enabled:
            gc.enable()


def _with_ports(options: LoadOptions, loaded: Loaded, *, auto: bool) -> Loaded:
    """Once more, now that the ports are known that `${DEVENV_PORT_…}` stand for."""
    wishes = list(autoports.wishes(loaded.canonical))
    chosen: autoports.Chosen = {wish: wish.published for wish in wishes}
    if auto and options.allot is not None:
        chosen = options.allot(loaded.project.name, loaded.project.working_dir, wishes)
    environ = {**autoports.variables(chosen), **options.environ}
    again = _load(dataclasses.replace(options, environ=environ), chosen if auto else None)
    again.warnings.extend(autoports.notes(chosen))
    return again


def _load(options: LoadOptions, chosen: autoports.Chosen | None = None) -> Loaded:
    report = diagnostic.Report()
    read = read_model(options, report)
    spec = to_canonical(read.spec, report, extensions=options.extensions)
    spec.setdefault("name", read.name)
    selection = profiles.select(spec, _profiles(options, read.environment), options.services)
    spec["services"] = selection.enabled
    if options.check:
        validate.consistency(spec, selection.disabled, spec, report)
        if options.has_runtime is not None:
            validate.runtimes(spec, options.has_runtime, report, hint=options.runtime_hint)
        report.raise_any()
    if not options.all_resources:
        profiles.prune(spec)
    sources = [*read.sources, *_env_paths(spec)]
    if options.resolve_env:
        resolve_env_files(spec, read.environment, report)
    _resolve_label_files(spec, report)
    spec["working_dir"] = read.directory
    autoports.settle(spec, chosen or {})
    project = _project(spec, sorted(selection.disabled), report)
    return Loaded(
        project=project,
        canonical=spec,
        warnings=report.warnings,
        files=list(read.files),
        environment=read.environment,
        disabled=selection.disabled,
        sources=tuple(dict.fromkeys(sources)),
    )


def _env_paths(spec: dict[str, Any]) -> list[str]:
    entries = [entry for service in spec["services"].values() for entry in service.get("env_file") or []]
    labels = [path for service in spec["services"].values() for path in service.get("label_file") or []]
    return [*(str(entry.get("path") or "") for entry in entries), *labels]


@dataclass(frozen=True, slots=True)
class Read:
    """The spec merged and in long form, but not canonical."""

    spec: dict[str, Any]
    name: str
    directory: str
    files: tuple[str, ...]
    environment: dict[str, str]
    sources: tuple[str, ...] = ()


def read_model(options: LoadOptions, report: diagnostic.Report) -> Read:
    cwd = options.cwd or os.getcwd()
    found = files.find(
        files=options.files,
        directory=options.project_directory,
        env_files=options.env_files,
        environ=options.environ,
        cwd=cwd,
        report=report,
    )
    context = reader.Context(
        report=report,
        environ=options.environ,
        stdin=options.stdin,
        cwd=cwd,
        interpolate=options.interpolate,
        resolve_paths=options.resolve_paths,
    )
    documents = [context.documents(path) for path in found.files]
    name = _name(options, found, documents, report)
    environment = {**found.environment, "COMPOSE_PROJECT_NAME": name}
    spec = context.spec(found.files, found.directory, environment)
    if not spec:
        shown = context.shown(found.files[0])
        raise errors.SpecError("the spec is empty", file=shown, hint="it needs at least `services:`")
    if options.normalise:
        normalise.normalise(spec, name, environment)
    named = [os.path.join(cwd, path) for path in options.env_files] or [f"{found.directory}/.env"]
    return Read(spec, name, found.directory, found.files, environment, (*context.paths, *named))


def _name(
    options: LoadOptions, found: files.Found, documents: list[list[source.Document]], report: diagnostic.Report
) -> str:
    """`name:` counts before anything is merged, since ${COMPOSE_PROJECT_NAME} may be used everywhere."""
    in_spec = None
    for document in (document for each in documents for document in each):
        value = document.value.get("name") if isinstance(document.value, dict) else None
        if isinstance(value, str) and value:
            in_spec = value
    if in_spec and options.interpolate:
        try:
            in_spec = interpolate.substitute(in_spec, found.environment.get)
        except ValueError as problem:
            raise report.fail(("name",), str(problem)) from None
    return files.project_name(options.project_name, found.environment, in_spec, found.directory)


def _profiles(options: LoadOptions, environment: Mapping[str, str]) -> list[str]:
    if options.profiles:
        return list(options.profiles)
    return [name.strip() for name in environment.get("COMPOSE_PROFILES", "").split(",") if name.strip()]


def to_canonical(spec: dict[str, Any], report: diagnostic.Report, *, extensions: bool = False) -> dict[str, Any]:
    maker = canonical.Canonicaliser(report, extensions=extensions)
    found: dict[str, Any] = {}
    if spec.get("name"):
        found["name"] = spec["name"]
    services = spec.get("services") or {}
    found["services"] = {
        name: maker.table(services[name], tables.SERVICE, ("services", name)) for name in sorted(services)
    }
    for section, table in tables.SECTIONS.items():
        items = spec.get(section) or {}
        made = {name: maker.table(items[name] or {}, table, (section, name)) for name in sorted(items)}
        if made:
            found[section] = made
    for name, value in spec.items():
        if name.startswith("x-") or (name in ("tasks", "ports", "seed") and value):
            found[name] = value
    report.raise_any()
    return found


def resolve_env_files(spec: dict[str, Any], environment: Mapping[str, str], report: diagnostic.Report) -> None:
    """`env_file` below `environment`, and then it has done its work."""
    for service_name, service in spec["services"].items():
        own: dict[str, str | None] = {
            name: environment.get(name) if value is None else value
            for name, value in (service.get("environment") or {}).items()
        }
        merged = {name: value for name, value in own.items() if value is not None}

        def lookup(name: str, own: Mapping[str, str | None] = own) -> str | None:
            outer = environment.get(name)
            return own.get(name) if outer is None else outer

        for index, entry in enumerate(service.pop("env_file", None) or []):
            problem = _env_file(entry, merged, lookup)
            if problem is not None:
                where = ("services", service_name, "env_file", index)
                hint = "make it, or write `{path: …, required: false}`"
                raise report.fail(where, problem, hint=hint)
        combined: dict[str, str | None] = {**merged, **own}
        if combined:
            service["environment"] = combined


def _env_file(entry: Mapping[str, Any], merged: dict[str, str], lookup: dotenv.Lookup) -> str | None:
    """What is wrong, if the file isn't there or of an unknown kind."""
    path = entry.get("path", "")
    if not os.path.exists(path):
        if entry.get("required", True):
            return f"there is no env file `{path}`"
        return None
    kind = entry.get("format") or ""
    if kind not in {"", "raw", ".env"}:
        return f"the env file format `{kind}` is not understood; there is `raw`"
    dotenv.read_file(path, merged, lookup, raw=kind == "raw")
    return None


def _resolve_label_files(spec: dict[str, Any], report: diagnostic.Report) -> None:
    for name, service in spec["services"].items():
        found: dict[str, str] = {}
        for path in service.get("label_file") or []:
            if not os.path.exists(path):
                raise report.fail(("services", name, "label_file"), f"there is no label file `{path}`")
            dotenv.read_file(path, found, found.get)
        labels = {**found, **(service.get("labels") or {})}
        if labels:
            service["labels"] = labels


def _project(spec: dict[str, Any], disabled: list[str], report: diagnostic.Report) -> model.Project:
    try:
        project = model.Project.model_validate(spec)
    except pydantic.ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            path = tuple(item["loc"])
            report.add(path, f"`{diagnostic.dotted(path)}`: {item['msg']}")
        report.raise_any()
        raise
    project.disabled_services = disabled
    return project


__all__ = ["LoadOptions", "Loaded", "Read", "forms", "load", "read_model", "to_canonical"]
