"""Another command of devenv as a child of this one: the same program, project and options before the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from devenv.cli import operate, options

# Whatever this interpreter finds is found there, too; one that is sealed was started without `site`.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from devenv import entry; entry.main()"


def argv(given: options.Globals, project: operate.Project, *words: str, name: str = "") -> list[str]:
    """``name``: of another project of the same spec."""
    found = [sys.executable, "-c", _PROGRAM.format(path=sys.path)]
    for file in given.files:
        found += ["--file", file]
    if name or given.project_name:
        found += ["--project-name", name or given.project_name]
    found += ["--project-directory", project.identity.directory]
    for flag, values in (("--profile", given.profiles), ("--env-file", given.env_files)):
        for value in values:
            found += [flag, value]
    if given.progress != options.Progress.AUTO:
        found += ["--progress", str(given.progress)]
    return [*found, *words]


def run(
    given: options.Globals,
    project: operate.Project,
    *words: str,
    name: str = "",
    environ: Mapping[str, str] | None = None,
    **more: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Where the spec was found by looking upwards, it is found again from the same folder."""
    environment = {**os.environ, **(environ or {})}
    return subprocess.run(argv(given, project, *words, name=name), env=environment, check=False, **more)


def code(returncode: int) -> int:
    """As shells have it."""
    return returncode if returncode >= 0 else 128 - returncode


def shown(words: Sequence[str] | str) -> str:
    import shlex

    return words if isinstance(words, str) else shlex.join(words)
