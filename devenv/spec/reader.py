"""Files to one merged spec in long form: each document filled in, with what it includes and extends, over the last.

``include`` loads a spec of its own, with its own folder and variables, and takes it in; ``extends`` takes one service,
of the same file or another, and puts the extending one on top. Both say the way round when they come back to where
they were.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.spec import diagnostic, files, forms, interpolate, merge, normalise, paths, scalars, shape, source, validate

SECTIONS = ("services", "volumes", "networks", "secrets", "configs", "models")
MOST_INCLUDED = 500


class Scope(NamedTuple):
    """Where a file stands: its folder, the variables it sees, and the files that led to it."""

    base: str
    environment: Mapping[str, str]
    trail: tuple[str, ...] = ()


class Origin(NamedTuple):
    """Where a service that is extended comes from."""

    services: dict[str, Any]
    resets: list[diagnostic.Path]
    file: str
    scope: Scope


class Context:
    def __init__(
        self,
        *,
        report: diagnostic.Report,
        environ: Mapping[str, str],
        stdin: bytes | None,
        cwd: str,
        interpolate: bool,
        resolve_paths: bool,
    ) -> None:
        self.report = report
        self.environ = environ
        self.stdin = stdin
        self.cwd = cwd
        self.interpolate = interpolate
        self.resolve_paths = resolve_paths
        self.included = 0
        self._documents: dict[str, list[source.Document]] = {}

    @property
    def paths(self) -> list[str]:
        """The files that were read, included and extended ones too."""
        return [path for path in self._documents if path != files.STDIN]

    def documents(self, path: str) -> list[source.Document]:
        """What is in a file; read once."""
        if path not in self._documents:
            shown = self.shown(path)
            if path == files.STDIN:
                data = self.stdin if self.stdin is not None else _read_stdin()
                text = source.decode(source.limited(data, shown=shown), shown=shown)
            else:
                text = source.read(path, shown=shown, what="spec")
            opened = source.Source(shown, text)
            self.report.sources.append(opened)
            found = opened.documents()
            # `---` with nothing below it is no document.
            whole = [document for document in found if document.value is not None] or found[:0]
            for document in whole:
                if not isinstance(document.value, dict):
                    raise errors.SpecError(
                        f"a spec is a mapping, not {scalars.describe(document.value)}",
                        file=shown,
                        line=1,
                        column=1,
                        excerpt=opened.excerpt(1),
                    )
            _refuse_nix(path, shown, whole)
            self._documents[path] = whole
        return self._documents[path]

    def shown(self, path: str) -> str:
        """As one would type it from here."""
        if path == files.STDIN:
            return "<stdin>"
        if path.startswith(self.cwd.rstrip("/") + "/"):
            return path[len(self.cwd.rstrip("/")) + 1 :]
        return path

    def spec(
        self, names: Sequence[str], directory: str, environment: Mapping[str, str], *, trail: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The files merged, in long form, with paths below ``directory``."""
        found: dict[str, Any] = {}
        for name in names:
            for document in self.documents(name):
                found = self._add(found, document, Scope(directory, environment, (*trail, name)))
        forms.defaults(found)
        validate.structure(found, self.report)
        self.report.raise_any()
        if self.resolve_paths:
            paths.Resolver(directory, self.environ).spec(found)
        normalise.file_contents(found, environment)
        return found

    def _add(self, found: dict[str, Any], document: source.Document, scope: Scope) -> dict[str, Any]:
        value = self._filled(document, scope.environment)
        self._include(value, document, scope)
        merge.drop(found, document.resets)
        self._extend(value, document, scope)
        return self._merged(found, value)

    def _filled(self, document: source.Document, environment: Mapping[str, str]) -> dict[str, Any]:
        if not self.interpolate:
            return copy.deepcopy(document.value)
        value = interpolate.interpolate(document.value, environment, self.report)
        self.report.raise_any()
        return value

    def _merged(self, found: dict[str, Any], value: dict[str, Any], *, check: bool = True) -> dict[str, Any]:
        try:
            found = merge.merge(found, value) if found else value
            found = merge.unique(found)
            if check:
                self._check(found)
            forms.Lengthener(self.report, lenient=not self.interpolate).spec(found)
            self.report.raise_any()
            forms.omit_empty(found)
            return merge.unique(found)
        except merge.Conflict as conflict:
            raise self.report.fail(conflict.path, str(conflict)) from None

    def _check(self, value: dict[str, Any]) -> None:
        shape.check_spec(value, (), self.report)
        self.report.raise_any()
        if value.pop("version", None) is not None:
            self.report.warn("`version` is obsolete and ignored")

    # include

    def _include(self, value: dict[str, Any], document: source.Document, scope: Scope) -> None:
        entries = value.pop("include", None)
        if entries is None:
            return
        if not isinstance(entries, list):
            raise self.report.fail(("include",), f"`include` must be a list, not {scalars.describe(entries)}")
        for index, entry in enumerate(entries):
            where: diagnostic.Path = ("include", index)
            shape.compile_include(entry, where, self.report)
            self.report.raise_any()
            options = {"path": entry} if isinstance(entry, str) else entry
            imported = self._included(options, where, scope)
            self._import(imported, value, document)

    def _included(self, options: dict[str, Any], where: diagnostic.Path, scope: Scope) -> dict[str, Any]:
        base, environment, trail = scope
        names = [self._local(path, base, where) for path in forms.strings(options.get("path") or [])]
        if not names:
            raise self.report.fail(where, "an `include` without a `path`")
        if names[0] in trail:
            way = " -> ".join(self.shown(path) for path in (*trail[trail.index(names[0]) :], names[0]))
            raise self.report.fail(where, f"include cycle: {way}")
        self.included += 1
        if self.included > MOST_INCLUDED:
            raise self.report.fail(where, f"more than {MOST_INCLUDED} files are included")
        directory = os.path.dirname(names[0])
        if options.get("project_directory"):
            directory = paths.join(base, options["project_directory"])
        inner = {**self._include_env(options, where, directory, scope), **environment}
        for path in names:
            self._exists(path, where)
        return self.spec(names, directory, inner, trail=trail)

    def _include_env(
        self, options: dict[str, Any], where: diagnostic.Path, directory: str, scope: Scope
    ) -> dict[str, str]:
        given = forms.strings(options.get("env_file") or [])
        if not given:
            own = os.path.join(directory, ".env")
            return files.env_variables(scope.environment, [own] if os.path.isfile(own) else [])
        found = [paths.join(scope.base, path) for path in given if path != "/dev/null"]
        for path in found:
            if not os.path.isfile(path):
                raise self.report.fail(where, f"there is no env file `{self.shown(path)}`")
        return files.env_variables(scope.environment, found)

    def _import(self, imported: dict[str, Any], value: dict[str, Any], document: source.Document) -> None:
        """What is included goes below what the including file says itself."""
        for section in SECTIONS:
            if not imported.get(section):
                continue
            own = value.setdefault(section, {})
            if own is None:
                own = value[section] = {}
            if not isinstance(own, dict):
                return  # its shape is refused in a moment
            for name, item in imported[section].items():
                if name not in own:
                    own[name] = item
                    continue
                merge.drop({section: {name: item}}, document.resets)
                try:
                    own[name] = merge.merge_resource(item, own[name], (section, name))
                except merge.Conflict as conflict:
                    raise self.report.fail(conflict.path, str(conflict)) from None
        for name in ("tasks",):
            if imported.get(name):
                value[name] = {**imported[name], **(value.get(name) or {})}

    # extends

    def _extend(self, value: dict[str, Any], document: source.Document, scope: Scope) -> None:
        services = value.get("services")
        if isinstance(services, dict):
            origin = Origin(services, document.resets, scope.trail[-1], scope)
            for name in list(services):
                services[name] = self._extended(name, origin, ())

    def _extended(self, name: str, origin: Origin, trail: tuple[tuple[str, str], ...]) -> Any:
        services, resets, file, scope = origin
        service = services[name]
        if not isinstance(service, dict) or service.get("extends") is None:
            return service
        where: diagnostic.Path = ("services", name, "extends")
        extends = service["extends"]
        if isinstance(extends, str):
            extends = {"service": extends}
        target = extends.get("service") if isinstance(extends, dict) else None
        other = extends.get("file") if isinstance(extends, dict) else None
        if not isinstance(target, str) or not isinstance(other, str | None):
            raise self.report.fail(where, "`extends` must be the name of a service, or `service` and `file`")
        if (file, name) in trail:
            way = " -> ".join(f"`{service}`" for _, service in (*trail[trail.index((file, name)) :], (file, name)))
            raise self.report.fail(where, f"extends cycle: {way}")
        trail = (*trail, (file, name))
        if other is not None:
            origin = self._other(other, where, scope)
        if target not in origin.services:
            hint = diagnostic.did_you_mean(target, origin.services)
            shown = f" in `{self.shown(origin.file)}`" if other is not None else ""
            message = f"service `{name}` extends the undefined service `{target}`{shown}"
            raise self.report.fail((*where, "service"), message, hint=hint, value=target)
        parent = self._extended(target, origin, trail)
        if not isinstance(parent, dict):
            return service
        below = {"services": {name: copy.deepcopy(parent)}}
        merge.drop(below, resets)
        try:
            merged = merge.merge_service(below["services"][name], service, name)
        except merge.Conflict as conflict:
            raise self.report.fail(conflict.path, str(conflict)) from None
        merged.pop("extends", None)
        services[name] = merged
        return merged

    def _other(self, path: str, where: diagnostic.Path, scope: Scope) -> Origin:
        """The services of another file, in long form and with paths from here."""
        local = self._local(path, scope.base, (*where, "file"))
        self._exists(local, (*where, "file"))
        found: dict[str, Any] = {}
        resets: list[diagnostic.Path] = []
        for document in self.documents(local):
            value = self._filled(document, scope.environment)
            merge.drop(found, document.resets)
            value.pop("include", None)
            shape.check_spec(value, (), self.report)
            self.report.raise_any()
            found = self._merged(found, value, check=False)
            resets += document.resets
        folder = os.path.dirname(local)
        paths.Resolver(folder, self.environ).spec(found)
        services = found.get("services")
        if not isinstance(services, dict):
            raise self.report.fail((*where, "file"), f"`{self.shown(local)}` has no services")
        return Origin(services, resets, local, Scope(folder, scope.environment))

    def _local(self, path: str, base: str, where: diagnostic.Path) -> str:
        if "://" in path or path.startswith(("git@", "oci:")):
            raise self.report.fail(
                where, f"`{path}` is not on this machine, and fetching specs is not built in yet", value=path
            )
        return path if path.startswith("/") else paths.join(base, path)

    def _exists(self, path: str, where: diagnostic.Path) -> None:
        if not os.path.lexists(path):
            raise self.report.fail(where, f"there is no file `{self.shown(path)}`")


def _read_stdin() -> bytes:
    with open(0, "rb", closefd=False) as stream:
        return stream.read(source.MOST_BYTES + 1)


def _refuse_nix(path: str, shown: str, documents: list[source.Document]) -> None:
    for document in documents:
        keys = set(document.value)
        if keys & source.NIX_KEYS and not keys & {"services", "include"}:
            raise errors.SpecError(
                f"`{shown}` belongs to the Nix tool devenv.sh, which has the same file name",
                hint="name your spec `compose.yaml`, or another file with `-f`",
            )
