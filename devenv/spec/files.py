"""Which files make the spec, which variables it sees, and what the project is called.

Looked for from the current folder upwards; the first folder that has one wins, and in it the first name of `NAMES`,
with the first override that is there. `-f` and COMPOSE_FILE name files instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.spec import diagnostic, dotenv, validate

# A file's name with those of its override; compose's own order among its four.
NAMES = ("devenv.yaml", "devenv.yml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = {
    "devenv": ("devenv.override.yaml", "devenv.override.yml"),
    "compose": ("compose.override.yml", "compose.override.yaml"),
    "docker-compose": ("docker-compose.override.yml", "docker-compose.override.yaml"),
}
STDIN = "-"


class Found(NamedTuple):
    files: tuple[str, ...]  # absolute, or "-"
    directory: str
    environment: dict[str, str]


def find(
    *,
    files: Sequence[str],
    directory: str | None,
    env_files: Sequence[str],
    environ: Mapping[str, str],
    cwd: str,
    report: diagnostic.Report,
) -> Found:
    """Raises ``SpecError`` when there is none."""
    environment = dict(environ)
    environment.setdefault("PWD", cwd)
    given = [path if path == STDIN else _absolute(path, cwd) for path in files]
    project = _absolute(directory, cwd) if directory else None
    named = [_absolute(path, cwd) for path in env_files or _listed(environ.get("COMPOSE_ENV_FILES", ""), ",")]
    start = project or _folder_of(given) or cwd
    _add_env(environment, named or _default_env(start, environ))
    if not given:
        separator = environment.get("COMPOSE_PATH_SEPARATOR") or ":"
        listed = environment.get("COMPOSE_FILE") or ""
        given = [path if path == STDIN else _absolute(path, cwd) for path in listed.split(separator) if path]
    if not given:
        given = _search(start, report)
    chosen = project or _folder_of(given) or cwd
    if chosen != start and not named:
        _add_env(environment, _default_env(chosen, environ))
    return Found(tuple(given), chosen, environment)


def _absolute(path: str, cwd: str) -> str:
    return os.path.normpath(os.path.join(cwd, path)) if not path.startswith("/dev/fd/") else path


def _folder_of(files: Sequence[str]) -> str | None:
    return next((os.path.dirname(path) for path in files if path != STDIN), None)


def _listed(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _default_env(folder: str, environ: Mapping[str, str]) -> list[str]:
    switch = environ.get("COMPOSE_DISABLE_ENV_FILE")
    if switch is not None and switch.lower() in {"1", "t", "true"}:
        return []
    path = os.path.join(folder, ".env")
    return [path] if os.path.isfile(path) else []


def _add_env(environment: dict[str, str], paths: Sequence[str]) -> None:
    found = env_variables(environment, paths)
    for name, value in found.items():
        environment.setdefault(name, value)


def env_variables(environment: Mapping[str, str], paths: Sequence[str]) -> dict[str, str]:
    """What the files say, later ones over earlier; values may use ``environment``."""
    found: dict[str, str] = {}
    for path in paths:
        if os.path.isdir(path):
            raise errors.SpecError(f"the env file `{path}` is a folder")
        if not os.path.exists(path):
            raise errors.SpecError(f"there is no env file `{path}`")
        dotenv.read_file(path, found, environment.get)
    return found


def _search(start: str, report: diagnostic.Report) -> list[str]:
    folder = start
    while True:
        names = [name for name in NAMES if os.path.exists(os.path.join(folder, name))]
        if names:
            return _with_override(folder, names, report)
        parent = os.path.dirname(folder)
        if parent == folder:
            raise errors.SpecError(
                f"there is no spec in `{start}` or above it",
                hint="write a `devenv.yaml`, begin with `devenv init`, or name a file with `-f`",
            )
        folder = parent


def _with_override(folder: str, names: list[str], report: diagnostic.Report) -> list[str]:
    chosen = names[0]
    if len(names) > 1:
        others = ", ".join(f"`{name}`" for name in names[1:])
        report.warn(f"using `{chosen}`; {others} is there, too")
    found = [os.path.join(folder, chosen)]
    stem = chosen.partition(".")[0]
    # Compose pairs any base file with any override, whichever is first in its list.
    stems = ("devenv",) if stem == "devenv" else ("compose", "docker-compose")
    overrides = [name for key in stems for name in OVERRIDES[key] if os.path.exists(os.path.join(folder, name))]
    if overrides:
        if len(overrides) > 1:
            report.warn(f"using `{overrides[0]}`; there are further overrides")
        found.append(os.path.join(folder, overrides[0]))
    return found


def project_name(given: str | None, environment: Mapping[str, str], in_spec: str | None, directory: str) -> str:
    """`-p`, COMPOSE_PROJECT_NAME, the spec's `name:`, the folder's name: the first that is there."""
    for name, what in ((given, "-p"), (environment.get("COMPOSE_PROJECT_NAME"), "COMPOSE_PROJECT_NAME")):
        if name:
            problem = validate.name_problem(name)
            if problem:
                raise errors.SpecError(f"`{name}` ({what}) can't be the name of a project", hint=problem)
            return name
    found = validate.normalise_name(in_spec or "") or validate.folder_name(directory)
    if not found:
        raise errors.SpecError(
            f"no project name can be made of `{in_spec or directory}`", hint="add `name:` to the spec, or use `-p NAME`"
        )
    return found
