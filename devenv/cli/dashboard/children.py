"""Other commands of devenv, run beside the screen: what they do is what they do when they are typed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

from devenv.cli import again, context, options

# What there is of the two. The first is what most people hope for.
_SHELL = "command -v bash >/dev/null 2>&1 && exec bash; exec sh"
_BRIEF = 2.0  # seconds in which nobody has read why a shell has ended


class Children:
    def __init__(self, given: options.Globals, project: context.Found) -> None:
        self._given = given._replace(progress=options.Progress.PLAIN)
        self._project = project
        self.running: dict[int, str] = {}  # by process id, what was typed

    async def follow(self, say: Callable[[str], None], *words: str) -> int:
        """Run a command and ``say`` each line that it prints. Its exit code."""
        process = await asyncio.create_subprocess_exec(
            *again.argv(self._given, self._project, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
            # A Ctrl-C is the dashboard's.
            process_group=0,
        )
        self.running[process.pid] = " ".join(words)
        try:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                say(line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
            return await process.wait()
        finally:
            del self.running[process.pid]

    async def read(self, *words: str) -> tuple[int, str]:
        """The exit code of a command, and all that it prints."""
        lines: list[str] = []
        code = await self.follow(lines.append, *words)
        return code, "\n".join(lines)

    def shell(self, service: str, number: int) -> None:
        """In the terminal, which is to be free for it. Returns when it has ended."""
        begun = time.monotonic()
        words = ("exec", "--index", str(number), service, "sh", "-c", _SHELL)
        code = again.run(self._given, self._project, *words).returncode
        if code != 0 and time.monotonic() - begun < _BRIEF:
            print("\nEnter leads back", end="", flush=True)
            sys.stdin.readline()
