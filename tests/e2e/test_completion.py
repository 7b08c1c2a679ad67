from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.support import projects, runner

pytestmark = pytest.mark.root


@pytest.fixture
def shop(devenv: runner.Devenv, project: projects.Project) -> runner.Devenv:
    project.write("""
        name: shop
        services: {web: {image: "host:"}, worker: {image: "host:"}}
        tasks: {lint: ruff, test: {command: pytest, description: "Run the tests"}}
    """)
    return devenv


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("unp",), ["unpause"]),
        (("up", "w"), ["web", "worker"]),
        (("up", "web", "wo"), ["worker"]),
        (("-f", "devenv.yaml", "logs", "we"), ["web"]),
        (("up", "--wait-"), ["--wait-timeout"]),
        (("up", "--scale", ""), ["web=", "worker="]),
        (("--progress", "q"), ["quiet"]),
        (("image", "pu"), ["pull", "push"]),
        (("task", "t"), ["test"]),
        (("completion", ""), ["bash", "fish", "zsh"]),
        (("nothing", ""), []),
        (("exec", "web", "--", ""), []),
    ],
)
def test_what_could_come_next(shop: runner.Devenv, words: tuple[str, ...], expected: list[str]) -> None:
    lines = shop("__complete", str(len(words)), *words).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == expected


def test_a_broken_spec_says_nothing(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write("services: {web: {imag: x}}")
    done = devenv("__complete", "2", "up", "w")
    assert (done.stdout, done.stderr) == ("", "")
    project.write("services: [")
    done = devenv("__complete", "2", "up", "w")
    assert (done.stdout, done.stderr) == ("", "")


def test_in_bash(shop: runner.Devenv) -> None:
    script = shop("completion", "bash").stdout
    asked = 'COMP_WORDS=(devenv up w); COMP_CWORD=2; _devenv; printf "%s," "${COMPREPLY[@]}"'
    folder = os.path.dirname(shop.command)
    environ = {**shop.environment(), "PATH": f"{folder}:{os.environ['PATH']}"}
    found = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"], cwd=shop.cwd, env=environ, capture_output=True, text=True, check=True
    )
    assert found.stdout == "web,worker,"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_others_are_scripts(shop: runner.Devenv, shell: str) -> None:
    script = shop("completion", shell).stdout
    assert "devenv __complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
