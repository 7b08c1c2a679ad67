"""`pull:` of `develop.watch`: what a container makes is in the project, and nobody's bytes are lost."""

from __future__ import annotations

import os
import pathlib

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
    name: back
    services:
      web:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        user: {user}
        develop:
          watch:
            - path: ./src
              target: /app
              action: sync
              initial_sync: true
              ignore: [node_modules/]
              pull: [app.lock, migrations/, "**/*.snap"]
"""


def has(path: pathlib.Path, text: str) -> None:
    def look() -> bool:
        assert path.exists()
        assert path.read_text() == text
        return True

    eventually(look, 10)


@pytest.fixture
def watched(anyone: runner.Devenv, project: projects.Project) -> projects.Project:
    project.write(SPEC.format(user='"0"' if anyone.user else '"999:998"'))
    project.write({"src/app.lock": "one\n", "src/main.py": "x\n"})
    if anyone.user is None:
        for path in (project.path, project / "src", project / "src/app.lock", project / "src/main.py"):
            os.chown(path, 4711, 4712)
    anyone("up", "-d", "--watch")
    return project


def test_what_the_container_makes_comes_back(anyone: runner.Devenv, watched: projects.Project) -> None:
    src = watched / "src"
    person = (src / "main.py").stat()
    made = (
        "cd /app; mkdir -p migrations/deep node_modules; echo a > migrations/deep/1.py; chmod 750 migrations/deep/1.py"
    )
    anyone.inside(
        "web", f"{made}; echo s > a.snap; echo no > node_modules/b.snap; echo no > other; echo two > app.lock"
    )
    has(src / "migrations/deep/1.py", "a\n")
    has(src / "a.snap", "s\n")
    has(src / "app.lock", "two\n")
    for name in ("migrations", "migrations/deep", "migrations/deep/1.py", "app.lock"):
        found = (src / name).lstat()
        assert (found.st_uid, found.st_gid) == (person.st_uid, person.st_gid)
    assert (src / "migrations/deep/1.py").stat().st_mode & 0o777 == 0o750
    assert not (src / "node_modules").exists()
    assert not (src / "other").exists()
    # And it still goes the other way, also for what came back.
    watched.write({"src/app.lock": "three\n"})
    eventually(lambda: anyone.inside("web", "cat /app/app.lock") == "three", 10)
    (src / "a.snap").unlink()
    eventually(lambda: anyone.inside("web", "ls /app/*.snap 2>/dev/null; true") == "", 10)
    assert not list(src.rglob("*.from-container*"))
    # What is written last is not lost with the container; what its image has does not come back.
    anyone.inside("web", "echo last > /app/app.lock; rm -r /app/migrations")
    anyone("restart", "-t", "0")
    has(src / "app.lock", "last\n")
    assert (src / "migrations/deep/1.py").exists()  # removing there removes nothing here
    anyone("up", "-d", "--watch", "--force-recreate")
    assert anyone.inside("web", "cat /app/app.lock") == "last"
    assert (src / "app.lock").read_text() == "last\n"


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_a_change_on_both_sides_keeps_both(anyone: runner.Devenv, watched: projects.Project) -> None:
    src = watched / "src"
    for number in range(3):
        # Together, so that neither side has seen the other's.
        anyone.inside("web", f"echo theirs{number} > /app/app.lock")
        watched.write({"src/app.lock": f"ours{number}\n"})
        eventually(lambda n=number: anyone.inside("web", "cat /app/app.lock") == f"ours{n}", 10)
        assert (src / "app.lock").read_text() == f"ours{number}\n"
    # While nobody looks, both are changed.
    anyone("watch", "--stop")
    anyone.inside("web", "echo theirs > /app/app.lock")
    watched.write({"src/app.lock": "ours\n"})
    anyone("up", "-d", "--watch")
    eventually(lambda: any(path.read_text() == "theirs\n" for path in src.glob("app.lock.from-container*")), 10)
    assert (src / "app.lock").read_text() == "ours\n"
    eventually(lambda: anyone.inside("web", "cat /app/app.lock") == "ours", 10)


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_no_link_leads_out(anyone: runner.Devenv, watched: projects.Project) -> None:
    outside = watched / "outside"
    outside.mkdir()
    (outside / "x.snap").write_text("mine\n")
    (watched / "src/linked").symlink_to(outside)
    anyone.inside(
        "web", "cd /app; ln -s /etc/hostname name.snap; rm -rf linked; mkdir linked; echo bad > linked/x.snap"
    )
    anyone.inside("web", "cd /app; mkfifo fifo.snap; mkdir dir.snap; ln -s /etc etc; echo good > good.snap")
    has(watched / "src/good.snap", "good\n")
    assert sorted(os.listdir(outside)) == ["x.snap"]
    assert (outside / "x.snap").read_text() == "mine\n"
    assert (watched / "src/linked").is_symlink()
    assert not (watched / "src/name.snap").exists()
    assert not (watched / "src/fifo.snap").exists()


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_explained(anyone: runner.Devenv, watched: projects.Project) -> None:
    assert "the container's changes come back" in anyone("watch", "--explain", "src/app.lock").stdout
    assert "come back" not in anyone("watch", "--explain", "src/main.py").stdout
