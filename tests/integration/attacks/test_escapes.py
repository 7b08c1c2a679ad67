"""What containers print, are called or run never speaks to the user's terminal (CVE-2003-0063 and its heirs)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import projects, runner, terminal
from tests.support.polling import eventually

OWNED = r"\e]2;owned\a"
SHOWN = "^[]2;owned^G"
SERVICE = rf"""
    name: escapes
    services:
      one:
        image: "host:"
        command: [sh, -c, "printf '\\033]2;owned\\007log\\n\\033]52;c;bw==\\007\\rlog\\n'; exec sleep 1000 # {OWNED}"]
        stop_signal: SIGKILL
        labels: {{what: "{OWNED}"}}
        healthcheck: {{test: "printf '{OWNED}'; exit 1", interval: 0.1s, retries: 1}}
      two: {{image: "host:", command: ["no-such-program {OWNED}"], profiles: [bad]}}
      three: {{image: "host:", command: [sleep], user: "{OWNED}", profiles: [bad]}}
      four: {{image: "host:", command: [sleep], depends_on: {{one: {{condition: service_healthy}}}}, profiles: [bad]}}
"""


@pytest.mark.root
def test_nothing_reaches_the_terminal(
    devenv: runner.Devenv, project: projects.Project, terminal_for: Callable[..., terminal.Terminal]
) -> None:
    project.write(SERVICE)
    devenv("up", "-d")
    eventually(lambda: "unhealthy" in devenv.ps()["escapes-one-1"]["Status"])
    for words in (
        ("logs",),
        ("top",),
        ("ps", "--no-trunc"),
        ("plan",),
        ("exec", "one", "no-such-program \x1b]2;owned\x07"),
        ("exec", "-u", "\x1b]2;owned\x07", "one", "true"),
        ("up", "-d", "two"),
        ("up", "-d", "three"),
        ("up", "-d", "four"),
    ):
        shown = terminal_for(devenv, *words)
        before = shown.title()
        shown.wait_for_exit(60)
        assert shown.title() == before != "owned", words
        assert "\x1b" not in shown.screen()
        if words[0] in {"logs", "exec"}:
            assert SHOWN in shown.screen().replace("\n", ""), words
    # What is attached to the terminal may speak to it: that is what it is for, and shows that the others could have.
    shown = terminal_for(devenv, "exec", "one", "printf", "\x1b]2;owned\x07")
    shown.wait_for_exit(60)
    assert shown.title() == "owned"
