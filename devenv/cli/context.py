"""Which project a command is about.

``load`` reads the spec. ``find`` is for commands that only need to know whose containers they are about: it reads the
spec too, since the project's name may be in it, but does with what is on disk when there is no spec, or one that is
broken just now: nobody should have to mend a file to see or to stop what runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from devenv import errors
from devenv.cli import options, report, terminal
from devenv.util import identity, paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devenv.spec import autoports, loader


class Loaded(NamedTuple):
    """A project and its spec."""

    identity: identity.Project
    where: paths.Paths
    spec: Any  # spec.model.Project
    canonical: dict[str, Any]
    files: tuple[str, ...]
    sources: tuple[str, ...] = ()  # all files that it depends on

    def check_services(self, names: list[str] | None) -> list[str]:
        return check_services(list(names or ()), self.spec.services, self.identity.name)

    def chosen(self, names: list[str] | None) -> list[str]:
        """Those named, or all."""
        return self.check_services(names) or sorted(self.canonical["services"])

    def with_dependencies(self, names: list[str] | None) -> list[str]:
        """With all that they depend on."""
        from devenv.graph import edges, traversal

        every = self.canonical["services"]
        needs = {name: set(edges.depends_on(service)) & set(every) for name, service in every.items()}
        return sorted(traversal.closure(needs, set(self.chosen(names))))


class Found(NamedTuple):
    """A project, with its spec when that could be read."""

    identity: identity.Project
    where: paths.Paths
    services: tuple[str, ...] | None  # None when only the containers on disk tell

    def check_services(self, names: list[str] | None) -> list[str]:
        """Names of services of the spec, or of containers that are there."""
        given = list(names or ())
        if given:
            from devenv.reconcile import record

            known = set(self.services or ())
            known.update(item.service for item in record.load_all(self.where, self.identity.id))
            check_services(given, known, self.identity.name)
        return given


def check_services(names: list[str], known: Any, project: str) -> list[str]:
    for name in names:
        if name not in known:
            raise errors.UsageError(
                f"no such service: `{name}`",
                hint=report.did_you_mean(name, known)
                or f"services of `{project}`: {', '.join(sorted(known)) or 'none'}",
            )
    return list(dict.fromkeys(names))


def load_options(given: options.Globals, **more: Any) -> loader.LoadOptions:
    from devenv.spec import loader

    return loader.LoadOptions(
        files=list(given.files),
        project_directory=given.project_directory or None,
        project_name=given.project_name or None,
        profiles=list(given.profiles),
        env_files=list(given.env_files),
        all_resources=given.all_resources,
        environ=dict(os.environ),
        cwd=current_folder(),
        allot=_allot,
        **more,
    )


def _allot(name: str, directory: str, wishes: Sequence[autoports.Wish]) -> dict[autoports.Wish, int]:
    """Host ports for `ports: auto`, this folder's own."""
    from devenv.network import allotment

    asks = [
        allotment.Ask(f"{wish.service}/{wish.target}/{wish.position}", wish.protocol, wish.host_ip, wish.published)
        for wish in wishes
    ]
    return dict(zip(wishes, allotment.allot(paths.locate(), identity.project(name, directory), asks), strict=True))


def current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise errors.UsageError("the current folder is gone", hint="`cd` to a folder that exists") from None


def load(given: options.Globals, services: list[str] | None = None, *, warn: bool = True) -> Loaded:
    """The spec, whole and checked. Naming a service enables its profiles. Raises ``SpecError``."""
    from devenv.runtime import programs
    from devenv.spec import loader

    has = lambda name: programs.find(name) is not None  # noqa: E731
    wanted = {"services": list(services or ()), "has_runtime": has, "runtime_hint": programs.HINT}
    loaded = loader.load(load_options(given, **wanted))
    if warn:
        for warning in loaded.warnings:
            terminal.warn(warning)
    project = loaded.project
    return Loaded(
        identity=identity.project(project.name, project.working_dir),
        where=paths.locate(),
        spec=project,
        canonical=loaded.canonical,
        files=tuple(loaded.files),
        sources=loaded.sources,
    )


def find(given: options.Globals) -> Found:
    """The project whose containers a command is about."""
    from devenv.spec import diagnostic, loader

    where = paths.locate()
    try:
        read = loader.read_model(load_options(given), diagnostic.Report())
    except errors.SpecError as error:
        project = _from_disk(given, where)
        if project is None:
            raise
        if _has_spec(error):
            terminal.warn(f"going by what runs, since the spec can't be read: {error.message}")
        return Found(project, where, None)
    return Found(identity.project(read.name, read.directory), where, tuple(read.spec.get("services") or ()))


def _has_spec(error: errors.SpecError) -> bool:
    return error.file is not None


def _from_disk(given: options.Globals, where: paths.Paths) -> identity.Project | None:
    """The one project that has containers and the given name, or whose folder the current one is in."""
    from devenv.reconcile import record

    name = given.project_name or os.environ.get("COMPOSE_PROJECT_NAME", "")
    folder = os.path.realpath(given.project_directory) if given.project_directory else ""
    candidates: dict[str, identity.Project] = {}
    for item in record.load_all(where):
        candidates[item.project_id] = identity.Project(item.project_id, item.project, item.project_dir)
    chosen = list(candidates.values())
    if name:
        chosen = [project for project in chosen if project.name == name]
    if folder or not name:
        here = folder or os.path.realpath(current_folder())
        chosen = [project for project in chosen if f"{here}/".startswith(f"{project.directory}/")]
    if len(chosen) > 1:
        if not name or folder:
            # The innermost folder is the nearest.
            return max(chosen, key=lambda project: len(project.directory))
        folders = ", ".join(f"`{project.directory}`" for project in chosen)
        raise errors.UsageError(
            f"there are {len(chosen)} projects `{name}`: in {folders}", hint="say which with `--project-directory`"
        )
    return chosen[0] if chosen else None
