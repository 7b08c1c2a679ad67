"""Runs the real command line, with data and runtime folders of its own, as root or as somebody else."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.support import isolation, leaks, polling
from tests.support.polling import eventually

Maker = Callable[[str], "Devenv"]
Result = subprocess.CompletedProcess[str]


class Devenv:
    """One installation as one user sees it: ``devenv("up", "-d")`` runs, checks the code, returns the result.

    ``cwd`` is where commands run unless a call says otherwise; tests set it to their project once.
    """

    def __init__(self, folder: str, command: str, user: isolation.User | None = None) -> None:
        self.folder = folder
        self.command = command
        self.user = user
        self.data = f"{folder}/d"
        self.run_directory = f"{folder}/r"
        self.cwd: str = folder
        self.env: dict[str, str] = {}
        self.ids: set[str] = set()  # projects and containers that were ever seen: their names must all be gone

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        base = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "HOME": os.environ.get("HOME", "/"),
            "DEVENV_DATA_HOME": self.data,
            "DEVENV_RUNTIME_DIR": self.run_directory,
        }
        if self.user is not None:
            base["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            base |= self.user.environment()
        return base | self.env | dict(env or {})

    def _options(self, cwd: str | os.PathLike[str] | None, env: Mapping[str, str] | None) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": os.fspath(cwd or self.cwd), "env": self.environment(env)}
        if self.user is not None:
            options |= {"user": self.user.uid, "group": self.user.uid, "extra_groups": []}
        return options

    def __call__(
        self,
        *arguments: str,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float = 60,
        code: int | None = 0,
    ) -> Result:
        """``code`` is the expected exit code; None accepts any."""
        # A file, not a pipe, takes the output: a process left running in the background must not hold the test.
        with open(f"{self.folder}/out", "w+b") as out, open(f"{self.folder}/err", "w+b") as err:
            process = subprocess.Popen(
                [self.command, *arguments],
                stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                stdout=out,
                stderr=err,
                **self._options(cwd, env),
            )
            try:
                process.communicate(None if input is None else input.encode(), timeout=timeout * polling.PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(self._story(arguments, "timeout", out, err)) from None
            finally:
                self.remember()
            for file in (out, err):
                file.seek(0)
            result = subprocess.CompletedProcess(
                arguments, process.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )
            if code is not None and result.returncode != code:
                raise AssertionError(self._story(arguments, f"exit code {result.returncode}", out, err))
        return result

    def _story(self, arguments: Sequence[str], what: str, out: Any, err: Any) -> str:
        """Everything one needs to see why a command failed."""
        lines = [f"`devenv {shlex.join(arguments)}` in {self.cwd}: {what}"]
        for name, file in (("stdout", out), ("stderr", err)):
            file.seek(0)
            lines.append(f"--- {name}\n{file.read().decode(errors='replace')[-6000:]}")
        for path in sorted(pathlib.Path(self.run_directory).glob("projects/*/*.log")):
            with contextlib.suppress(OSError):
                lines.append(f"--- {path}\n{path.read_text(errors='replace')[-4000:]}")
        return "\n".join(lines)

    def start(
        self,
        *arguments: str,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> subprocess.Popen[str]:
        """A command that runs beside the test, such as an attached `up`. The caller waits for it."""
        options = self._options(cwd, env) | {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }
        return subprocess.Popen([self.command, *arguments], **(options | more))

    def json(self, *arguments: str, **more: Any) -> Any:
        """The output of a command that was asked for `--format json`: one value, or a list of one value a line."""
        text = self(*arguments, "--format", "json", **more).stdout
        try:
            return json.loads(text)
        except ValueError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]

    def ps(self, *arguments: str, **more: Any) -> dict[str, dict[str, Any]]:
        """`ps --all` as one mapping from container name to its fields."""
        found = self.json("ps", "--all", *arguments, **more)
        rows = found if isinstance(found, list) else [found]
        return {row["Name"]: row for row in rows}

    def inside(self, service: str, script: str, *flags: str, **more: Any) -> str:
        """What a shell command prints in a running service, without the last line's end."""
        return self("exec", "-T", *flags, service, "sh", "-c", script, **more).stdout.rstrip("\n")

    # -- what it leaves -----------------------------------------------------------------------------------------

    def remember(self) -> None:
        for folder in (f"{self.data}/containers", f"{self.run_directory}/projects", f"{self.data}/projects"):
            with contextlib.suppress(OSError):
                self.ids.update(os.listdir(folder))

    def projects(self) -> Iterator[tuple[str, str]]:
        """Name and folder of each project that still has a supervisor."""
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(f"{self.run_directory}/folders")):
                target = os.readlink(f"{self.run_directory}/folders/{name}")
                project_id = os.path.basename(target)
                yield project_id.rpartition("-")[0], name.replace("%2F", "/").replace("%25", "%")

    def close(self) -> None:
        """Take everything down as a user would; what is there afterwards is a leak."""
        for name, folder in list(self.projects()):
            if os.path.isdir(folder):
                self("-p", name, "down", "-v", "-t", "0", "--remove-orphans", cwd=folder, code=None)
        # Supervisors without a thing to supervise leave at once or soon; those with stopped containers may be told.
        self.end_engines()

    def end_engines(self) -> None:
        """SIGTERM for every process of this installation that is no container, and two seconds to leave."""
        if self.user is None and os.geteuid() != 0:
            return
        gone = lambda: not leaks.processes_naming(self.folder, own_words=True)  # noqa: E731
        with contextlib.suppress(AssertionError):
            eventually(gone, 1.0)
            return
        for pid in leaks.processes_naming(self.folder, own_words=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            eventually(gone, 3.0)


def own_command() -> str:
    """The command of the environment that the tests run in."""
    return f"{os.path.dirname(sys.executable)}/devenv"
