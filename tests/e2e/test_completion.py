from __future__ import annotations

import os
import pathlib
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


def run(shop: runner.Devenv, *words: str, input: str | None = None) -> list[str]:
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    environ = {**shop.environment(), "PATH": f"{os.path.dirname(shop.command)}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=shop.cwd, env=environ, input=input, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_in_fish(shop: runner.Devenv) -> None:
    script = shop("completion", "fish").stdout

    def asked(line: str) -> list[str]:
        return run(shop, "fish", "--no-config", "-c", f"{script}\ncomplete -C '{line}'")

    assert asked("devenv up w") == ["web", "worker"]
    assert asked("devenv unp") == ["unpause\tResume paused services"]
    assert [line.split("\t")[0] for line in asked("devenv -f deve")] == ["devenv.yaml"]


@pytest.mark.parametrize("loaded", ["source", "autoload"])
def test_in_zsh(shop: runner.Devenv, tmp_path: pathlib.Path, loaded: str) -> None:
    """Without a terminal: what it hands to zsh's own functions. A colon in a name would end it there."""
    (tmp_path / "_devenv").write_text(shop("completion", "zsh").stdout)
    begin = {
        "source": f"compdef() {{ }}; source {tmp_path}/_devenv",
        "autoload": f"fpath=({tmp_path} $fpath); autoload -Uz _devenv",
    }[loaded]
    script = f"""
        {begin}
        _describe() {{ print -rl -- "${{(@P)2}}" }}
        _files() {{ print files }}
        words=(devenv up w) CURRENT=3; _devenv
        words=(devenv unp) CURRENT=2; _devenv
        words=(devenv up '') CURRENT=3; _devenv
        words=(devenv -f deve) CURRENT=3; _devenv
        words=(devenv -f "'devenv.yaml'" up we) CURRENT=5; _devenv
    """
    found = run(shop, "zsh", "-f", "-c", script)
    assert found == ["web", "worker", "unpause:Resume paused services", "web", "worker", "files", "web"]


def test_without_a_shell_of_a_known_name(devenv: runner.Devenv) -> None:
    assert "__complete" in devenv("completion", env={"SHELL": "/usr/bin/fish"}).stdout
    assert "for bash: eval" in devenv("completion", "tcsh", code=2).stderr
