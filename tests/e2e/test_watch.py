"""`develop.watch`: what is saved in the project is in the container, whatever the way in which it was saved."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import engine, polling, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

WEB = """
    name: loop
    services:
      web:
        image: "host:"
        command: [sh, -c, "echo began; exec sleep 1000"]
        stop_signal: SIGKILL
        develop:
          watch:
            - {path: ./src, target: /app, action: sync, initial_sync: true, ignore: [node_modules/, "**/*.log"]}
"""


# Kind, mode and link of all, then what is in the files.
LOOK = "find . -mindepth 1 {but} -printf '%P\\t%y %m %l\\n'; find . -mindepth 1 {but} -type f -exec sha256sum -b {{}} +"
LEFT_OUT = "\\( -name node_modules -o -name '*.log' -o -name .git \\) -prune -o"


def tree(devenv: runner.Devenv, *flags: str, where: str = "/app") -> list[str]:
    """All that is in the container's folder."""
    return sorted(devenv.inside("web", f"cd {where} 2>/dev/null && {LOOK.format(but='')}", *flags).splitlines())


def wanted(folder: pathlib.Path) -> list[str]:
    """The same, of the project's folder."""
    if not folder.exists():
        return []
    script = LOOK.format(but=LEFT_OUT)
    printed = subprocess.run(["sh", "-c", script], cwd=folder, text=True, capture_output=True, check=True).stdout
    return sorted(printed.splitlines())


def level(devenv: runner.Devenv, project: projects.Project, *flags: str) -> None:
    """Waits until the container's folder is the project's."""

    def same() -> bool:
        assert tree(devenv, *flags) == wanted(project / "src")
        return True

    eventually(same, 10.0)


@pytest.fixture
def watched(anyone: runner.Devenv, project: projects.Project) -> projects.Project:
    os.umask(0o022)
    project.write(WEB)
    project.write({"src/main.py": "print(1)\n", "src/pkg/a.py": "a = 1\n", "src/node_modules/x/y": "no"})
    anyone("up", "-d", "--watch")
    return project


def test_saved_made_renamed_and_removed(anyone: runner.Devenv, watched: projects.Project) -> None:
    assert tree(anyone) == wanted(watched / "src")  # level before its first process ran
    watched.write({"src/main.py": "print(2)\n", "src/new/deep/b.py": "b\n", "src/x.log": "not this"})
    (watched / "src/pkg/a.py").chmod(0o755)
    level(anyone, watched)
    (watched / "src/new").rename(watched / "src/renamed")
    (watched / "src/main.py").unlink()
    (watched / "src/link").symlink_to("pkg/a.py")
    level(anyone, watched)
    shutil.rmtree(watched / "src/pkg")
    (watched / "src/pkg").write_text("a file now")
    level(anyone, watched)
    assert anyone.inside("web", "stat -c %U /app/pkg /app/renamed").split() == ["root", "root"]


def test_as_editors_save(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(WEB).write({"src/a.txt": "0"})
    devenv("up", "-d", "--watch")
    path = project / "src/a.txt"

    def vim() -> None:
        (project / "src/4913").write_text("")
        (project / "src/4913").unlink()
        path.rename(project / "src/a.txt~")
        path.write_text("vim")
        (project / "src/a.txt~").unlink()

    def vim_beside() -> None:
        (project / "src/.a.txt.swp").write_text("swap")
        path.write_text("vim, backupcopy=yes")
        (project / "src/.a.txt.swp").unlink()

    def vscode() -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, b"VS Code")
        os.fsync(descriptor)
        os.close(descriptor)

    def jetbrains() -> None:
        (project / "src/a.txt___jb_tmp___").write_text("JetBrains")
        path.rename(project / "src/a.txt___jb_old___")
        (project / "src/a.txt___jb_tmp___").rename(path)
        (project / "src/a.txt___jb_old___").unlink()

    def emacs() -> None:
        (project / "src/.#a.txt").symlink_to("me@here.1:1")
        (project / "src/#a.txt#").write_text("auto save")
        path.write_text("emacs")
        (project / "src/#a.txt#").unlink()
        (project / "src/.#a.txt").unlink()

    def sed() -> None:
        subprocess.run(["sed", "-i", "s/.*/sed/", str(path)], check=True)

    for save in (vim, vim_beside, vscode, jetbrains, emacs, sed):
        save()
        text = path.read_text()
        eventually(lambda text=text: devenv.inside("web", "cat /app/a.txt") == text.rstrip("\n"), 10.0)
        assert devenv.inside("web", "ls -A /app") == "a.txt", save.__name__


def test_a_file_that_is_written_into_stays_the_same_one_for_who_watches_it(
    anyone: runner.Devenv, project: projects.Project
) -> None:
    project.write(WEB).write({"src/a.txt": "1", "src/b.txt": "1"})
    anyone("up", "-d", "--watch")
    time.sleep(1.5)  # only then it is no new file any more

    def inode(name: str, text: str) -> str:
        eventually(lambda: anyone.inside("web", f"cat /app/{name}") == text, 10.0)
        return anyone.inside("web", f"stat -c %i /app/{name}")

    first, other = inode("a.txt", "1"), inode("b.txt", "1")
    for text in ("a longer text", "2"):
        (project / "src/a.txt").write_text(text)
        assert inode("a.txt", text) == first
    (project / "src/new").write_text("3")
    (project / "src/new").rename(project / "src/b.txt")
    assert inode("b.txt", "3") != other


def test_what_a_full_disk_has_no_room_for_leaves_the_file_as_it_was(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(WEB.replace("command:", "tmpfs: ['/app:size=128k']\n        command:"))
    project.write({"src/a.txt": "a" * 50_000, "src/b.txt": "b" * 40_000})
    devenv("up", "-d", "--watch")
    assert devenv.inside("web", "wc -c </app/a.txt").strip() == "50000"
    time.sleep(1.5)
    with looking_on(devenv) as lines:
        with (project / "src/a.txt").open("r+") as file:
            file.write("c" * 100_000)
        eventually(lambda: [line for line in lines() if "a.txt" in line and "No space" in line], 10.0)
    assert devenv.inside("web", "tr -d a </app/a.txt | wc -c; wc -c </app/a.txt").split() == ["0", "50000"]
    # Room again: the next save of it is there, though nothing else has begun anew.
    (project / "src/b.txt").unlink()
    project.write({"src/a.txt": "d" * 60_000})
    level(devenv, project)


def git(project: projects.Project, *arguments: str) -> None:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-c", "gc.auto=0", *arguments]
    subprocess.run(command, cwd=project / "src", check=True, capture_output=True)


def test_git_checkouts_there_and_back(
    devenv: runner.Devenv, project: projects.Project, soak: Callable[[int, int], int]
) -> None:
    """`--soak`: 5,000 files, 20 times."""
    third = soak(300, 1700)
    project.write(WEB)
    (project / "src").mkdir()
    git(project, "init", "-q", "-b", "one")
    project.write({f"src/d{number % 20}/f{number}": f"one {number}" for number in range(2 * third)})
    project.write({"src/turns": "a file"})
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    git(project, "checkout", "-q", "-b", "two")
    shutil.rmtree(project / "src/d1")
    (project / "src/turns").unlink()
    project.write({f"src/d{number % 20}/f{number}": f"two {number}" for number in range(third, 3 * third)})
    project.write({"src/turns/into/a/folder": "x"})
    git(project, "add", "-A")
    git(project, "commit", "-qm", "two")
    devenv("up", "-d", "--watch")
    level(devenv, project)
    for branch in ("one", "two") * soak(2, 20):
        git(project, "checkout", "-q", branch)
        level(devenv, project)


def test_two_replicas_another_user_and_a_read_only_root(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(WEB)
    project.edit(r"^( +)command:", r"\1user: '1234:5678'\n\1read_only: true\n\1tmpfs: ['/app']\n\1scale: 2\n\1command:")
    project.write({"src/a/b": "1"})
    devenv("up", "-d", "--watch")
    project.write({"src/a/b": "2", "src/c": "3"})
    for index in ("1", "2"):
        level(devenv, project, "--index", index)
        assert (
            devenv.inside("web", "stat -c %u:%g /app/a /app/a/b /app/c", "--index", index).split() == ["1234:5678"] * 3
        )


def test_a_read_only_target_is_named_once_and_nothing_breaks(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(WEB)
    project.edit(r"^( +)command:", r"\1read_only: true\n\1command:")
    project.write({"src/a": "1"})
    devenv("up", "-d", "--watch")
    with looking_on(devenv) as lines:
        eventually(lambda: [line for line in lines() if "read-only" in line], 10.0)
        project.write({"src/a": "2"})
        project.write({"src/b": "2"})
        assert devenv.ps()["loop-web-1"]["State"] == "running"


@contextlib.contextmanager
def looking_on(devenv: runner.Devenv, *flags: str) -> Iterator[object]:
    """`devenv watch --no-up`; yields what gives its lines so far."""
    path = f"{devenv.folder}/watching"
    with open(path, "w") as out:
        process = devenv.start("watch", "--no-up", *flags, stdout=out)
    try:
        yield lambda: pathlib.Path(path).read_text().splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20 * polling.PATIENCE) == 130, pathlib.Path(path).read_text()


def test_a_restarted_and_a_recreated_container_are_level_before_they_start(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(WEB.replace("initial_sync: true, ", ""))
    project.edit(r"echo began", "cat /app/a; ls -A /app")
    project.write({"src/a": "one\n", "src/unchanged": "x"})
    devenv("up", "-d", "--watch")
    project.write({"src/a": "two\n"})
    eventually(lambda: devenv.inside("web", "cat /app/a") == "two", 10.0)
    devenv("stop")
    project.write({"src/a": "three\n", "src/b": ""})
    devenv("start")
    eventually(lambda: devenv("logs", "--no-log-prefix", "web").stdout.endswith("three\na\nb\n"), 10.0)
    (project / "src/b").unlink()
    devenv("up", "-d", "--force-recreate")
    # The same as the one before it had been given: no more, and no less.
    eventually(lambda: devenv("logs", "--no-log-prefix", "web").stdout == "three\na\n", 10.0)


def test_a_container_that_is_restarted_in_the_middle_of_a_storm(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(WEB)
    project.write({"src/began": "x"})
    devenv("up", "-d", "--watch")
    written = {f"src/d{number % 30}/f{number}": str(number) for number in range(1500)}

    def storm() -> None:
        for turn in range(3):
            project.write({name: f"{text} {turn}" for name, text in written.items()})

    writer = threading.Thread(target=storm)
    writer.start()
    for _ in range(3):
        devenv("restart", "-t", "0")
    writer.join()
    level(devenv, project)


def test_no_link_in_the_container_leads_a_sync_out_of_its_target(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(WEB).write({"src/d/f": "1", "src/top": "1"})
    (project / "host").mkdir()
    project.edit(r"^( +)command:", r"\1volumes: ['./host:/app/bound']\n\1command:")
    devenv("up", "-d", "--watch")
    devenv.inside(
        "web", "mkdir /out; rm -r /app/d /app/top; ln -s /out /app/d; ln -s /out/top /app/top; ln -s /out /app/e"
    )
    project.write({"src/d/f": "2", "src/top": "2", "src/e/g": "3", "src/bound/h": "4"})
    eventually(lambda: devenv.inside("web", "cat /app/d/f /app/top /app/e/g") == "223", 10.0)
    assert devenv.inside("web", "ls -A /out") == ""
    assert os.listdir(project / "host") == []
    # And one that takes the place of the target itself.
    devenv.inside("web", "umount /app/bound 2>/dev/null; mv /app /was 2>/dev/null; ln -s /out /app", code=None)
    project.write({"src/top": "5"})
    project.write({"src/d/f": "5"})
    assert devenv.inside("web", "ls -A /out") == ""


def test_restart_and_exec_follow_what_was_synced(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write("""
        name: loop
        services:
          web:
            image: "host:"
            command: [sh, -c, "echo began with $$(cat /etc/app.conf); exec sleep 1000"]
            stop_signal: SIGKILL
            develop:
              watch:
                - {path: ./app.conf, target: /etc/app.conf, action: sync+restart, initial_sync: true}
                - path: ./hooks
                  target: /hooks/
                  action: sync+exec
                  exec: {command: [sh, -c, "echo $$WHO saw $$(cat /hooks/h) >> /seen"], environment: {WHO: hook}}
                - {path: ./again, action: restart}
    """)
    project.write({"app.conf": "1", "hooks/h": "0", "again": ""})
    devenv("up", "-d", "--watch")
    with looking_on(devenv) as lines:
        project.write({"app.conf": "2"})
        eventually(lambda: "began with 2" in devenv("logs", "web").stdout, 10.0)
        project.write({"hooks/h": "1"})
        eventually(lambda: devenv.inside("web", "cat /seen") == "hook saw 1", 10.0)
        project.write({"again": "!"})
        eventually(lambda: devenv("logs", "web").stdout.count("began with 2") == 2, 10.0)
        (project / "app.conf").touch()  # the same content is no change
        (project / "hooks/h").touch()
        project.write({"hooks/h": "2"})
        eventually(lambda: devenv.inside("web", "cat /seen").endswith("hook saw 2"), 10.0)
        assert devenv("logs", "web").stdout.count("began with 2") == 2
        said = "\n".join(lines())
    assert "watch: web: 1 file changed: app.conf → sync, restart" in said
    assert "watch: web: 1 file changed: hooks/h → sync, exec" in said
    assert "watch: web: 1 file changed: again → restart" in said


def test_a_bind_mount_is_left_alone_and_said_so(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(WEB).edit(r"^( +)command:", r"\1volumes: ['./src:/app']\n\1command:")
    project.write({"src/a": "1"})
    devenv("up", "-d", "--watch")
    with looking_on(devenv) as lines:
        eventually(lambda: [line for line in lines() if "bind mount" in line], 10.0)


def test_nothing_to_watch_is_an_error(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write('services: {web: {image: "host:", command: [sleep, "1000"]}}')
    assert "configured for watch" in devenv("watch", code=2).stderr
    assert "configured for watch" in devenv("up", "-d", "--watch", code=2).stderr


def test_it_goes_on_when_the_supervisor_is_killed(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(WEB).write({"src/a": "1"})
    devenv("up", "-d", "--watch")
    with looking_on(devenv):
        engine.kill(engine.find(devenv, "supervisor"))
        project.write({"src/a": "2", "src/b": "3"})
        level(devenv, project)
    project.write({"src/b": "4"})
    level(devenv, project)
    devenv("watch", "--stop")
    assert "nothing is watched" in devenv("watch", "--stop", code=2).stderr


def test_up_in_the_foreground_watches_until_it_ends(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(WEB).write({"src/a": "1"})
    path = pathlib.Path(devenv.folder, "up")
    with open(path, "w") as out:
        process = devenv.start("up", "--watch", stdout=out)
    eventually(lambda: "Watch enabled" in path.read_text(), 20.0)
    project.write({"src/a": "2"})
    eventually(lambda: "web: 1 file changed: src/a → sync" in path.read_text(), 10.0)
    assert devenv.inside("web", "cat /app/a") == "2"
    process.send_signal(signal.SIGINT)
    assert process.wait(20 * polling.PATIENCE) == 130


def test_a_rebuild_makes_the_image_and_the_container_anew(devenv: runner.Devenv, project: projects.Project) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    project.write("""
        name: loop
        services:
          web:
            build: .
            stop_signal: SIGKILL
            develop:
              watch:
                - {path: ./installed, action: rebuild}
                - {path: ./src, target: /app, action: sync}
    """)
    project.write({"Dockerfile": 'FROM scratch\nCOPY . /\nCMD ["/busybox", "sleep", "1000"]\n', "installed": "1"})
    project.write({".dockerignore": "src/generated\n", "src/a": "1"})
    shutil.copy(busybox, project / "busybox")
    devenv("up", "-d", "--watch")

    def inside(path: str) -> str:
        return devenv("exec", "-T", "web", "/busybox", "cat", path, code=None).stdout

    project.write({"src/a": "2", "src/generated/x": "1"})
    eventually(lambda: inside("/app/a") == "2", 10.0)
    images = devenv.json("image", "ls", "--all")
    with looking_on(devenv) as lines:
        project.write({"installed": "2"})
        eventually(lambda: inside("/installed") == "2", 30.0)
        eventually(lambda: "watch: web: rebuilt" in lines(), 10.0)
        assert "watch: web: 1 file changed: installed → rebuild" in lines()
    assert len(devenv.json("image", "ls", "--all")) == len(images)  # the one before is gone
    assert inside("/app/a") == "2"  # what was synced into the one before
    assert inside("/app/generated/x") == ""  # the build's .dockerignore counts
    project.write({"Dockerfile": "FROM scratch\nCOPY missing /\n"})
    with looking_on(devenv) as lines:
        project.write({"installed": "3"})
        eventually(lambda: [line for line in lines() if line.startswith("watch: error: web:")], 30.0)
    assert devenv.ps()["loop-web-1"]["State"] == "running"


DERIVED = """\
FROM scratch
COPY busybox /bin/
COPY installed /
RUN ["/bin/busybox", "cp", "/installed", "/made"]
COPY --chmod=750 src /app
CMD ["/bin/busybox", "sleep", "1000"]
"""


def test_rules_by_the_dockerfile(anyone: runner.Devenv, project: projects.Project) -> None:
    devenv, busybox = anyone, shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox")
    project.write("name: loop\nservices: {web: {build: ., stop_signal: SIGKILL}}\n")
    project.write({"Dockerfile": DERIVED, "installed": "1", "src/a": "1", "notes": "1"})
    shutil.copy(busybox, project / "busybox")
    devenv("up", "-d", "--watch")

    def inside(*command: str) -> str:
        return devenv("exec", "-T", "web", "/bin/busybox", *command, code=None).stdout.strip()

    with looking_on(devenv) as lines:
        project.write({"src/a": "2", "src/new/b": "1"})
        eventually(lambda: (inside("cat", "/app/a"), inside("cat", "/app/new/b")) == ("2", "1"), 10.0)
        assert inside("stat", "-c", "%a", "/app/a") == "750"
        project.write({"installed": "2"})
        eventually(lambda: inside("cat", "/made") == "2", 30.0)
        text = "watch: web: 1 file changed: installed → rebuild from `COPY installed /` (Dockerfile:3)"
        eventually(lambda: text in lines(), 10.0)
        # An edited Dockerfile has other rules.
        eventually(lambda: "watch: web: rebuilt" in lines(), 10.0)
        project.write({"Dockerfile": DERIVED.replace("src /app", "src /elsewhere")})
        eventually(lambda: inside("cat", "/elsewhere/a") == "2", 30.0)
    project.write({"src/a": "3"})
    eventually(lambda: inside("cat", "/elsewhere/a") == "3", 10.0)


def test_why_a_file_is_synced_or_not(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write("name: loop\nservices: {web: {build: .}, db: {image: 'host:'}}\n")
    project.write({"Dockerfile": DERIVED, "busybox": "", "installed": "1", "src/a": "1", "notes": "1"})
    printed = devenv("watch", "web", "--explain", "src/a", "--explain", "installed", "--explain", "notes").stdout
    assert printed.splitlines() == [
        "src/a",
        "  web: sync to /app/a by `COPY --chmod=750 src /app` (Dockerfile:5): no command of the build reads it, "
        "and `busybox` reads its files when it needs them",
        "installed",
        "  web: rebuild from `COPY installed /` (Dockerfile:3): "
        '`RUN ["/bin/busybox", "cp", "/installed", "/made"]` (Dockerfile:4) can read it',
        "notes",
        "  web: nothing: no step of its Dockerfile copies it to where it could be seen",
    ]
    found = devenv.json("watch", "--explain", "notes", "--format", "json")
    assert {each["service"]: each["why"] for each in found} == {
        "db": "it has neither `build:` nor `develop.watch`",
        "web": "no step of its Dockerfile copies it to where it could be seen",
    }
    assert devenv.ps() == {}


def test_an_edited_spec_is_planned_shown_and_carried_out(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: live
        include: [more.yaml]
        services:
          web:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            environment: {WORD: "${WORD}"}
            env_file: [web.env]
            develop: {watch: [{path: ./src, target: /app, action: sync}]}
        """
    )
    other = (
        'services: {other: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, environment: {N: "1"}}}\n'
    )
    project.write({"more.yaml": other, ".env": "WORD=one\n", "web.env": "MORE=1\n", "src/a": "a"})
    anyone("up", "-d", "--watch")

    def said(service: str, name: str) -> str:
        return anyone("exec", "-T", service, "sh", "-c", f"echo ${name}", code=None).stdout.strip()

    with looking_on(anyone) as lines:
        for path, text, service, name, value in (
            (".env", "WORD=two\n", "web", "WORD", "two"),
            ("web.env", "MORE=2\n", "web", "MORE", "2"),
            ("more.yaml", other.replace('"1"}', '"2"}'), "other", "N", "2"),
        ):
            project.write({path: text})
            eventually(lambda service=service, name=name, value=value: said(service, name) == value, 30.0)
        text = (project / "devenv.yaml").read_text()
        assert any("the spec has changed" in line for line in lines())
        before = anyone("ps", "-q").stdout
        (project / "devenv.yaml").write_text(text.replace("command:", "comand:"))
        eventually(lambda: [line for line in lines() if "devenv.yaml:6:" in line], 30.0)
        assert any("stays as it is" in line for line in lines())
        assert anyone("ps", "-q", code=None).stdout == before
        # As an editor saves that writes another file in its place; and its rules count from then on.
        (project / "new").write_text(text.replace("./src, target: /app", "./src, target: /srv"))
        (project / "new").rename(project / "devenv.yaml")
        eventually(lambda: [line for line in lines() if line == "watch: Watch enabled"][1:], 30.0)
        project.write({"src/a": "b"})
        eventually(lambda: anyone.inside("web", "cat /srv/a 2>/dev/null; true") == "b", 30.0)
