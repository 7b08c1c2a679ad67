"""A real terminal for tests of attached commands: a tmux server of its own, its screen read as text."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from tests.support import isolation
from tests.support.polling import eventually


class Terminal:
    def __init__(
        self,
        socket: str,
        command: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        columns: int = 100,
        rows: int = 30,
        term: str = "screen-256color",
        user: isolation.User | None = None,
    ) -> None:
        self._socket = socket
        self._user = user
        self._env = dict(env) | {"TERM": "screen-256color"}
        line = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in self._env.items()), f"TERM={term}", *command])
        # The pane stays when the command ends, and says how; the shell outlives a Ctrl-C, which it gets as well.
        line = f"trap : INT QUIT; {line}; printf '\\n[exit %s]\\n' $?; exec sleep 1000"
        size = ("-x", str(columns), "-y", str(rows))
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", cwd, line)

    def _tmux(self, *arguments: str) -> str:
        identity = {} if self._user is None else {"user": self._user.uid, "group": self._user.uid, "extra_groups": []}
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            capture_output=True,
            text=True,
            env=self._env | {"SHELL": "/bin/sh"},
            timeout=20,
            **identity,  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            raise AssertionError(f"tmux {arguments}: {done.stderr}")
        return str(done.stdout)

    def screen(self) -> str:
        """What is to be seen, with what scrolled away above it."""
        return self._tmux("capture-pane", "-p", "-S", "-2000").rstrip("\n")

    def title(self) -> str:
        """What a program that prints OSC 2 changes."""
        return self._tmux("display-message", "-p", "#{pane_title}").strip()

    def send(self, *keys: str) -> None:
        """Keys in tmux's names: `C-c`, `Enter`, `Up`, or text."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self.send("Enter")

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def wait_for(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        try:
            return eventually(lambda: re.search(pattern, self.screen(), re.MULTILINE), timeout)
        except AssertionError:
            raise AssertionError(f"{pattern!r} did not appear on this screen:\n{self.screen()}") from None

    def wait_for_exit(self, timeout: float = 20) -> int:
        return int(self.wait_for(r"^\[exit (\d+)\]", timeout)[1])

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, timeout=20)
        if os.path.exists(self._socket):
            os.unlink(self._socket)
