"""Configs and secrets from everywhere, for whom they are meant, and on no disk."""

from __future__ import annotations

import pathlib
import shutil

from tests.support import engine, projects, runner
from tests.support.polling import eventually

PROJECT = """
    name: hush
    services:
      app:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        restart: always
        secrets:
          - variable
          - {source: command, target: /run/told, mode: 0400}
          - {source: file, mode: 0440}
        configs:
          - inline
          - {source: variable, target: /etc/conf, mode: 0600}
    secrets:
      variable: {environment: HUSH_ONE}
      command: {x-devenv: {command: "printf '%s' hush-$((40 + 2))-told; echo"}}
      file: {file: ./secret}
    configs:
      inline: {content: "shown\\n"}
      variable: {environment: HUSH_TWO}
"""
WORDS = ("hush-one-value", "hush-42-told", "hush-two-value", "hush-in-file")
ENV = {"HUSH_ONE": WORDS[0], "HUSH_TWO": WORDS[2]}
LOOK = "cat /run/secrets/variable /run/told /run/secrets/file /etc/conf /inline"


def written_to(folder: str) -> list[str]:
    """Files that have one of the secrets."""
    found = []
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            found += [str(path) for word in WORDS if word.encode() in content]
    return found


def test_from_everywhere_and_on_no_disk(anyone: runner.Devenv, project: projects.Project) -> None:
    devenv = anyone
    project.write(PROJECT).write({"secret": WORDS[3]})
    told = devenv("up", "-d", env=ENV)
    text = devenv.inside("app", LOOK)
    assert all(word in text for word in WORDS)
    assert "shown" in text
    modes = devenv.inside("app", "stat -c %a:%u /run/secrets/variable /run/told /run/secrets/file /etc/conf").split()
    assert modes == ["444:0", "400:0", "440:0", "600:0"]
    asked = (
        ["config"],
        ["config", "--format", "json"],
        ["container", "inspect", "hush-app-1"],
        ["ps", "--format", "json"],
        ["logs"],
        ["plan"],
    )
    said = [told.stdout + told.stderr, *(devenv(*words, env=ENV).stdout for words in asked)]
    assert not [word for word in WORDS for text in said if word in text]
    assert written_to(devenv.data) == []

    # A supervisor that takes over, without the variables, brings the service back with them, and changes nothing.
    engine.kill(engine.find(devenv, "supervisor"))
    devenv("exec", "-T", "app", "kill", "-9", "1", code=None)
    devenv("kill", "app")
    devenv("start", "app")
    eventually(lambda: WORDS[0] in devenv.inside("app", LOOK))
    assert written_to(devenv.data) == []
    devenv("down")
    assert written_to(devenv.data) == [] == written_to(devenv.run_directory)


def test_after_a_restart_of_the_machine(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT).write({"secret": WORDS[3]})
    devenv("up", "-d", env=ENV)
    devenv("stop")
    shutil.rmtree(pathlib.Path(devenv.run_directory, "files"))
    assert "were in memory" in devenv("start", code=1).stderr
    assert "which were in memory" in devenv("up", "-d", env=ENV).stderr
    assert all(word in devenv.inside("app", LOOK) for word in WORDS)


def test_a_command_that_fails(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT.replace("printf '%s' hush-$((40 + 2))-told; echo", "exit 3")).write({"secret": "x"})
    assert "the command of `secrets.command` failed with exit code 3" in devenv("up", "-d", code=1, env=ENV).stderr
    assert "in memory" not in devenv("config").stderr
