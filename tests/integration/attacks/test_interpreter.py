"""CVE-2019-5736, CVE-2016-9962: what a container gets hold of while the runtime joins it, again and again.

Its first process looks at every other process through /proc: those that are still the runtime's own, on their way to
become the container's, and those that run the runtime's program because they were asked to execute `/proc/self/exe`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import sys
from typing import Any

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

INTERPRETER = pathlib.Path(os.path.realpath(sys.executable))
ATTACKER = pathlib.Path(__file__).with_name("attacker.py")


def libraries() -> list[pathlib.Path]:
    """What the interpreter runs beside itself: the shared library that Python may be in."""
    maps = pathlib.Path("/proc/self/maps").read_text()
    return [INTERPRETER, *map(pathlib.Path, sorted(set(re.findall(r"/\S*/libpython\S+", maps))))]


def digests() -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in libraries()]


def project_under_attack(project: projects.Project, what: str, attributes: str = "") -> None:
    found = INTERPRETER.stat()
    project.write({"attacker.py": ATTACKER.read_text(), "trap": "#!/proc/self/exe\n"})
    (project / "trap").chmod(0o755)
    project.write(
        f"""
        name: attack
        services:
          one:
            image: "host:"
            command: [python3, -u, /attack/attacker.py, "{found.st_dev}", "{found.st_ino}", {what}]
            stop_signal: SIGKILL
            volumes: ["./:/attack"]
            healthcheck: {{test: [CMD, /attack/trap], interval: 0.1s, retries: 1000}}
            {attributes}
        """
    )


def reported(devenv: runner.Devenv) -> list[str]:
    return devenv("logs", "--no-log-prefix").stdout.splitlines()


def report(devenv: runner.Devenv) -> dict[str, Any]:
    """What the attacker has found until now."""
    devenv("kill", "-s", "USR1")
    lines = eventually(lambda: reported(devenv))
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def attacked(devenv: runner.Devenv, rounds: int = 6) -> dict[str, Any]:
    devenv("up", "-d")
    for number in range(rounds):
        # One without the preloaded process, as when nothing else of devenv runs.
        slow = {"DEVENV_SLOW": "1"} if number == 0 else {}
        devenv("exec", "-T", "one", "/attack/trap" if number % 2 else "true", code=None, env=slow)
    return report(devenv)


@pytest.mark.parametrize("attributes", ["", "cap_add: [SYS_PTRACE, SYS_ADMIN, DAC_READ_SEARCH]"])
def test_the_interpreter_cant_be_written(devenv: runner.Devenv, project: projects.Project, attributes: str) -> None:
    before = digests()
    project_under_attack(project, "program", attributes)
    found = attacked(devenv)
    assert found["seen"] > 0, "the attack never met the interpreter, so it proves nothing"
    assert found["writable"] == 0, found
    assert found["written"] == [], found
    assert found["changed"] == [], found
    devenv("down", "-t", "0")
    assert digests() == before


def check_nobody_is_traced(devenv: runner.Devenv) -> None:
    found = attacked(devenv)
    assert found["joining"] > 0, "the attack never met a process on its way, so it proves nothing"
    assert found["reached"] == [], found


def test_who_joins_cant_be_traced(anyone: runner.Devenv, project: projects.Project) -> None:
    project_under_attack(project, "process")
    check_nobody_is_traced(anyone)


def test_who_joins_cant_be_traced_from_a_user_namespace(devenv: runner.Devenv, project: projects.Project) -> None:
    """Nor by whoever may trace everything there."""
    project_under_attack(project, "process", 'cap_add: [SYS_PTRACE]\n            userns_mode: "auto"')
    check_nobody_is_traced(devenv)
