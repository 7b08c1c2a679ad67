"""How services end: a first process without a handler never does by SIGTERM, and nobody waits for it."""

from __future__ import annotations

import time

import pytest

from tests.support import projects, runner

SPEC = """
    name: ends
    x-all: &all {image: "host:", stop_grace_period: 60s}
    services:
      deaf: {<<: *all, command: [sleep, "1000"]}
      heeds:
        <<: *all
        command: [sh, -c, "trap 'sleep 0.5; echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"]
      waits:
        <<: *all
        command:
          - python3
          - -c
          - |
            import signal, sys, time
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            signal.sigwait([signal.SIGTERM])
            time.sleep(0.5)
            sys.exit(4)
      init: {<<: *all, command: [sleep, "1000"], init: true}
"""


@pytest.mark.root
def test_each_in_its_own_way(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    anyone("up", "-d", "--wait")
    begun = time.monotonic()
    anyone("stop")
    assert time.monotonic() - begun < 30
    ends = {name: row["ExitCode"] for name, row in anyone.ps().items()}
    assert ends == {"ends-deaf-1": 137, "ends-heeds-1": 3, "ends-waits-1": 4, "ends-init-1": 143}
    assert "bye" in anyone("logs", "heeds").stdout
