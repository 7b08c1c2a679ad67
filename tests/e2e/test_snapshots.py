"""Snapshots of volumes: consistent under load, brought back, undone; and nothing lost by a kill at any step."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pathlib
import tarfile
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.linux import rename
from devenv.runtime import copyup
from devenv.util import paths
from devenv.volume import snapshot, stack, volume
from tests.support import engine, filesystem, machine, projects, runner
from tests.support.polling import eventually

# Whole lines, each one write(2), numbered: a state of the volume is consistent if no number lacks.
PROJECT = """
    name: kept
    services:
      writer:
        image: "host:"
        command: ["sh", "-c", "cd /data; touch log; i=$$(wc -l < log); while :; do i=$$((i+1)); echo $$i >> log; done"]
        stop_signal: SIGKILL
        volumes: ["data:/data", "other:/other"]
      reader:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["data:/data"]
    volumes: {data: {labels: {team: blue}}, other: {}}
"""


def numbers(devenv: runner.Devenv, service: str = "reader") -> list[int]:
    return [int(line) for line in devenv.inside(service, "cat /data/log").splitlines()]


def lines(devenv: runner.Devenv) -> int:
    return int(devenv.inside("reader", "wc -l < /data/log"))


@pytest.fixture
def writing(anyone: runner.Devenv, project: projects.Project) -> runner.Devenv:
    project.write(PROJECT)
    anyone("up", "-d")
    eventually(lambda: lines(anyone) > 10)
    return anyone


def test_saved_under_load_and_restored(writing: runner.Devenv) -> None:
    devenv = writing
    devenv.inside("reader", "mkdir /data/d; echo one > /data/d/f; ln -s d/f /data/link")
    told = devenv("snapshot", "save", "first").stderr
    assert "2 volumes and 2 containers in" in told
    assert "is there already" in devenv("snapshot", "save", "first", code=1).stderr
    # Everybody goes on, and sees what the others write.
    before = lines(devenv)
    eventually(lambda: lines(devenv) > before)
    devenv.inside("reader", "echo two > /data/d/f; rm /data/link; echo new > /data/new; mv /data/d /data/moved")
    assert devenv.inside("writer", "cat /data/moved/f /data/new").split() == ["two", "new"]
    changes = devenv("snapshot", "diff", "first").stdout.splitlines()
    assert {"A kept_data/new", "D kept_data/link", "A kept_data/moved", "D kept_data/d", "C kept_data/log"} == set(
        changes
    )

    devenv("stop", "writer")
    devenv("snapshot", "restore", "first")
    assert devenv.ps()["kept-writer-1"]["State"] == "exited"
    assert devenv.inside("reader", "cat /data/d/f /data/link; ls /data").split() == ["one", "one", "d", "link", "log"]
    found = numbers(devenv)
    assert found == list(range(1, len(found) + 1))
    assert len(found) <= before

    devenv("undo")
    assert devenv.inside("reader", "cat /data/moved/f; ls /data").split() == ["two", "log", "moved", "new"]
    found = numbers(devenv)
    assert found == list(range(1, len(found) + 1))
    assert lines(devenv) > before
    devenv("undo")
    assert "one" in devenv.inside("reader", "cat /data/d/f")

    names = devenv("snapshot", "ls", "-q").stdout.split()
    assert names[0] == "first"
    assert len(names) <= 1 + snapshot.KEPT
    devenv("snapshot", "rm", "first", "--automatic")
    assert devenv("snapshot", "ls", "-q").stdout == ""
    assert "one" in devenv.inside("reader", "cat /data/d/f")
    assert "no snapshot `first`" in devenv("snapshot", "restore", "first", code=1).stderr


def test_undo_of_down_v(writing: runner.Devenv) -> None:
    devenv = writing
    devenv.inside("reader", "echo mine > /data/file")
    assert "devenv undo" in devenv("down", "-v").stderr
    assert devenv("volume", "ls", "-q").stdout == ""
    devenv("undo")
    [shown] = json.loads(devenv("volume", "inspect", "kept_data").stdout)
    assert shown["Labels"] == {"team": "blue"}
    devenv("up", "-d", "reader")
    assert devenv.inside("reader", "cat /data/file") == "mine"
    found = numbers(devenv)
    assert found == list(range(1, len(found) + 1))
    # Of a volume that is a snapshot's itself.
    devenv.inside("reader", "echo more >> /data/file")
    devenv("down", "-t", "0")
    devenv("volume", "rm", "kept_data")
    devenv("undo")
    devenv("up", "-d", "reader")
    assert devenv.inside("reader", "cat /data/file") == "mine\nmore"
    assert devenv("volume", "export", "kept_data").stdout


def test_nothing_to_save_and_nothing_to_undo(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write('services: {app: {image: "host:", command: [sleep, "100"], stop_signal: SIGKILL}}')
    assert "neither volumes nor containers" in devenv("snapshot", "save", "a", code=1).stderr
    devenv("up", "-d")
    assert "neither volumes" in devenv("snapshot", "save", "a", "--volumes-only", code=1).stderr
    assert "nothing to undo" in devenv("undo", code=1).stderr
    for name in ("a/b", "auto-x", "..", "-"):
        assert "is no name" in devenv("snapshot", "save", "--", name, code=1).stderr


@pytest.fixture(params=filesystem.kinds("btrfs", "xfs") or [""])
def clones(request: pytest.FixtureRequest, short_path: pathlib.Path) -> Iterator[str]:
    """A folder on a filesystem that shares blocks."""
    if not request.param:
        pytest.skip("needs a filesystem that shares blocks: mkfs.btrfs or mkfs.xfs")
    with filesystem.mounted(request.param, short_path / "fs", short_path / "images"):
        yield f"{short_path}/fs"


@pytest.mark.root
@machine.needs_root
def test_nothing_is_copied_where_blocks_are_shared(
    clones: str, devenv: runner.Devenv, project: projects.Project
) -> None:
    def used() -> int:
        os.sync()
        found = os.statvfs(clones)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    project.write(PROJECT)
    devenv.data = f"{clones}/d"
    devenv("up", "-d", "reader")
    devenv.inside("reader", "head -c 40M /dev/urandom >/data/large; sha256sum </data/large >/data/sum")
    before = used()
    # Whatever comes after a restore, too.
    for number in range(2):
        devenv.inside("reader", f"echo {number} >/data/f")
        devenv("snapshot", "save", f"s{number}")
        devenv.inside("reader", "rm /data/f")
        devenv("snapshot", "restore", f"s{number}")
        assert devenv.inside("reader", "cat /data/f") == str(number)
    devenv("undo")
    assert devenv.inside("reader", "sha256sum </data/large | cmp - /data/sum && ls /data").split() == ["large", "sum"]
    assert used() - before < 10 << 20
    devenv("down", "-v")
    devenv("undo")
    devenv("up", "-d", "reader")
    assert devenv.inside("reader", "ls /data").split() == ["large", "sum"]
    devenv("snapshot", "save", "last")
    assert used() - before < 10 << 20


@pytest.mark.root
@machine.needs_root
def test_a_deep_stack(devenv: runner.Devenv, project: projects.Project, soak: Callable[[int, int], int]) -> None:
    """As of somebody who saves before every test run."""
    project.write(PROJECT)
    writing, depth = devenv, soak(5, 100)
    writing("up", "-d")
    eventually(lambda: lines(writing) > 10)
    for number in range(depth):
        writing.inside("reader", f"echo {number} > /data/n")
        writing("snapshot", "save", f"s{number}")
    for number in (depth // 2, depth - 1, 0):
        writing("snapshot", "restore", f"s{number}")
        assert writing.inside("reader", "cat /data/n") == str(number)
    found = numbers(writing)
    assert found == list(range(1, len(found) + 1))


# -- a kill at any step -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


class Store(snapshot.SnapshotStore):
    """Of a project with one volume; dies before the step whose number is given."""

    def __init__(self, tmp: pathlib.Path) -> None:
        self.where = paths.Paths(str(tmp / "data"), str(tmp / "run"))
        self.volumes = volume.VolumeStore(self.where, "p")
        super().__init__(self.where, "p")

    def content(self) -> str:
        found = self.folder("v")
        self.volumes.ensure("v")
        stack.mounted(found, self.layers)
        try:
            return pathlib.Path(found, "_data", "file").read_text() if os.listdir(f"{found}/_data") else ""
        finally:
            stack.unmounted(found)

    def write(self, text: str) -> None:
        found = self.folder("v")
        stack.mounted(found, self.layers)
        with open(f"{found}/_data/file", "w") as file:
            file.write(text)
        stack.unmounted(found)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """``[n]``: the n-th change of the disk from now on does not happen any more."""
    left = [-1]

    def before(function: object) -> object:
        def call(*args: object, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*args, **more)  # type: ignore[operator]

        return call

    for name in ("rename", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, before(getattr(os, name)))
    monkeypatch.setattr(rename, "exchange", before(rename.exchange))
    return left


@pytest.mark.root
@machine.needs_root
def test_many_layers_become_one(tmp_path: pathlib.Path) -> None:
    """The kernel mounts so many and no more, and before Linux 6.5 in other words."""
    if not stack.possible(str(tmp_path)):
        pytest.skip("needs hardware: a filesystem that overlays can be on")
    store = Store(tmp_path)
    store.volumes.ensure("v")
    for number in range(stack.DEEP + 3):
        store.write(str(number))
        store.freeze(snapshot.Snapshot(f"s{number}", float(number)), ["v"], copyup.fill)
        assert store.content() == str(number)
    deepest = max(len(each.volumes["v"].layers) for each in store.list())
    assert deepest == stack.DEEP
    assert len(store.list()[-1].volumes["v"].layers) < 5
    for number in (0, stack.DEEP // 2, stack.DEEP - 1, stack.DEEP, stack.DEEP + 2):
        store.restore(store.find(f"s{number}"), ["v"], copyup.fill, stacked=True)
        assert store.content() == str(number)


@pytest.mark.root
@machine.needs_root
def test_many_layers_stay_where_there_is_no_room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not stack.possible(str(tmp_path)):
        pytest.skip("needs hardware: a filesystem that overlays can be on")
    monkeypatch.setattr(stack, "DEEP", 2)
    monkeypatch.setattr(stack, "DEEPEST", 5)

    def full(folder: str, source: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store(tmp_path)
    store.volumes.ensure("v")
    for number in range(5):
        store.write(str(number))
        store.freeze(snapshot.Snapshot(f"s{number}", float(number)), ["v"], full)
    store.write("last")
    with pytest.raises(errors.VolumeError, match="has 5 layers, and there was no room"):
        store.freeze(snapshot.Snapshot("more", 9.0), ["v"], full)
    assert store.content() == "last"
    store.restore(store.find("s4"), ["v"], full, stacked=True)
    assert store.content() == "4"


@pytest.mark.root
@machine.needs_root
@pytest.mark.parametrize("way", ["renamed", "copied", "made one"])
@pytest.mark.parametrize("step", ["save", "save again", "restore", "remove", "first remove"])
def test_a_kill_loses_neither_state(
    tmp_path: pathlib.Path, dying: list[int], step: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked = way != "copied"
    if stacked and not stack.possible(str(tmp_path)):
        pytest.skip("needs hardware: a filesystem that overlays can be on")
    if way == "made one":
        monkeypatch.setattr(stack, "DEEP", 0)

    def keep(store: Store, wanted: snapshot.Snapshot) -> None:
        if stacked:
            store.freeze(wanted, ["v"], copyup.fill)
        else:
            store.copy(wanted, ["v"], copyup.fill)

    def restore(store: Store, wanted: snapshot.Snapshot) -> None:
        store.restore(wanted, ["v"], copyup.fill, stacked=stacked)

    for kill in range(1, 60):
        store = Store(tmp_path / str(kill))
        store.volumes.ensure("v")
        store.write("one")
        if step not in {"save", "first remove"}:
            keep(store, snapshot.Snapshot("a", 1.0))
            store.write("two")
        now = "one" if step in {"save", "first remove"} else "two"
        dying[0] = kill
        try:
            if step.startswith("save"):
                keep(store, snapshot.Snapshot("b", 2.0))
            elif step == "restore":
                keep(store, snapshot.Snapshot("auto-b", 2.0, "restore"))
                restore(store, store.find("a"))
            else:
                store.keep_removed("v", snapshot.Snapshot("auto-b", 2.0, "rm"))
        except Killed:
            pass
        finished = dying[0] > 0
        dying[0] = -1
        again = Store(tmp_path / str(kill))
        there = again.content() if again.volumes.get("v") else ""
        assert there in ({now, "one"} if step == "restore" else {now, ""} if "remove" in step else {now})
        if not there:
            last = again.last_automatic()
            assert last is not None
            restore(again, last)
            assert again.content() == now
        if again.get("a"):
            restore(again, again.find("a"))
            assert again.content() == "one"
        if again.get("auto-b") and step == "restore":
            restore(again, again.find("auto-b"))
            assert again.content() == "two"
        if finished:
            assert kill > 3
            return
    raise AssertionError("it never came to its end")


@pytest.mark.root
@machine.needs_root
def test_a_kill_while_a_volume_becomes_one_folder_loses_nothing(tmp_path: pathlib.Path, dying: list[int]) -> None:
    if not stack.possible(str(tmp_path)):
        pytest.skip("needs hardware: a filesystem that overlays can be on")
    for kill in range(1, 60):
        store = Store(tmp_path / str(kill))
        store.volumes.ensure("v")
        store.write("one")
        store.freeze(snapshot.Snapshot("a", 1.0), ["v"], copyup.fill)
        store.write("two")
        dying[0] = kill
        with contextlib.suppress(Killed):
            stack.flatten(store.folder("v"), store.layers, copyup.fill)
        finished = dying[0] > 0
        dying[0] = -1
        again = Store(tmp_path / str(kill))
        assert again.content() == "two"
        again.write("three")
        stack.flatten(again.folder("v"), again.layers, copyup.fill)
        assert again.content() == "three"
        again.restore(again.find("a"), ["v"], copyup.fill, stacked=True)
        assert again.content() == "one"
        if finished:
            assert kill > 3
            return
    raise AssertionError("it never came to its end")


@pytest.mark.root
@machine.needs_root
def test_a_kill_while_a_container_gets_its_layer_back_loses_neither(tmp_path: pathlib.Path, dying: list[int]) -> None:
    def text(folder: str | pathlib.Path) -> str:
        return pathlib.Path(folder, "file").read_text()

    for kill in range(1, 60):
        store = Store(tmp_path / str(kill))
        upper = tmp_path / str(kill) / "upper"
        upper.mkdir(parents=True)
        (upper / "file").write_text("one")
        boxes = {"app-1": snapshot.Box("sha256:1", (str(upper),))}
        store.copy(snapshot.Snapshot("a", 1.0), [], copyup.fill, boxes, copyup.duplicate)
        (upper / "file").write_text("two")
        dying[0] = kill
        with contextlib.suppress(Killed):
            store.refill(store.find("a"), boxes, snapshot.Snapshot("auto-b", 2.0, "restore"), copyup.duplicate)
        finished = dying[0] > 0
        dying[0] = -1
        again = Store(tmp_path / str(kill))
        with again._held():
            again.collect()
        assert text(f"{again.layers}/{again.find('a').containers['app-1'].folders[0]}") == "one"
        before = again.get("auto-b")
        kept = before.containers["app-1"].folders[0] if before else ""
        # What it had is in its place, or where a snapshot names it.
        assert "two" in {text(upper), text(f"{again.layers}/{kept}") if kept else ""}
        last = again.last_automatic()
        if last is not None:
            assert text(f"{again.layers}/{last.containers['app-1'].folders[0]}") == "two"
        if finished:
            assert text(upper) == "one"
            assert kill > 3
            return
    raise AssertionError("it never came to its end")


@pytest.mark.root
@machine.needs_root
def test_whoever_stood_still_when_a_supervisor_was_killed_goes_on(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    sleeping = '{image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}'
    project.write(
        PROJECT.replace("    volumes: {data", f"      idle: {sleeping}\n      ended: {sleeping}\n    volumes: {{data")
    )
    devenv("up", "-d")
    devenv("stop", "ended")
    # Enough for the copy of it to take a while.
    devenv.inside("idle", "head -c 300M /dev/urandom >/srv/large; echo one >/srv/f")
    devenv.inside("reader", "echo one >/data/f")
    data = pathlib.Path(devenv.data)

    def held() -> bool:
        return any(data.glob("snapshots/*/held"))

    def still() -> bool:
        states = [json.loads(path.read_text())["status"] for path in data.glob("containers/[!.]*/state.json")]
        return held() and "running" not in states

    def cut(*words: str) -> None:
        before = engine.find(devenv, "supervisor")
        assert before
        with devenv.start("snapshot", *words) as command:
            eventually(still, interval=0.001)
            engine.kill(before)
            command.communicate(timeout=120)
        eventually(lambda: not held(), 30.0)
        found = {name.split("-")[1]: row["State"] for name, row in devenv.ps("-a").items()}
        assert found == {"writer": "running", "reader": "running", "idle": "running", "ended": "exited"}

    cut("save", "first")
    count = eventually(lambda: lines(devenv))
    eventually(lambda: lines(devenv) > count)
    if not devenv("snapshot", "ls", "-q").stdout:
        devenv("snapshot", "save", "first")
    devenv.inside("reader", "echo two >/data/f")
    devenv.inside("idle", "echo two >/srv/f")
    cut("restore", "first")
    assert devenv.inside("reader", "cat /data/f") in {"one", "two"}
    written = {path.read_text() for path in data.glob("**/f") if path.is_file()}
    assert {"one\n", "two\n"} <= written
    devenv("snapshot", "restore", "first")
    assert devenv.inside("reader", "cat /data/f") == devenv.inside("idle", "cat /srv/f") == "one"
    found = numbers(devenv)
    assert found == list(range(1, len(found) + 1))


def test_the_oldest_automatic_snapshot_is_restored_before_it_is_forgotten(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(PROJECT)
    devenv("up", "-d", "reader")
    devenv.inside("reader", "echo 0 >/data/f")
    devenv("snapshot", "save", "first")
    for number in range(1, snapshot.KEPT + 1):
        devenv.inside("reader", f"echo {number} >/data/f")
        devenv("snapshot", "restore", "first")
    oldest = devenv("snapshot", "ls", "-q").stdout.split()[1]
    devenv("snapshot", "restore", oldest)
    assert devenv.inside("reader", "cat /data/f") == "1"
    assert len(devenv("snapshot", "ls", "-q").stdout.split()) == 1 + snapshot.KEPT


# -- containers -------------------------------------------------------------------------------------------------------


def test_what_containers_have_written_of_their_own(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: own
        services:
          app:
            image: "host:"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            volumes: ["/nameless"]
          idle: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
        """
    )
    anyone("up", "-d")
    anyone.inside("app", "echo one >/srv/own; rm /etc/hostname.d 2>/dev/null; rm -r /etc/skel; echo n >/nameless/n")
    anyone.inside("idle", "echo one >/srv/own")
    pid = anyone("top", "idle").stdout
    told = anyone("snapshot", "save", "first").stderr
    assert "1 volume and 2 containers in" in told
    if anyone.user is None:
        assert anyone("top", "idle").stdout == pid  # who can be paused is not stopped
    assert anyone.inside("app", "cat /srv/own") == "one"
    anyone.inside("app", "echo two >/srv/own; mkdir -p /etc/skel/x; echo >/srv/new; rm /nameless/n")
    anyone.inside("idle", "echo two >/srv/own")
    changes = set(anyone("snapshot", "diff", "first").stdout.splitlines())
    assert {"C app-1:/srv/own", "A app-1:/srv/new", "A app-1:/etc/skel"} <= changes
    assert any(line.startswith("D ") and line.endswith("/n") for line in changes)
    anyone("snapshot", "restore", "first")
    look = "cat /srv/own /nameless/n; ls /srv/new /etc/skel 2>/dev/null; true"
    assert anyone.inside("idle", "cat /srv/own; echo three >>/srv/own; cat /srv/own").split() == ["one", "one", "three"]
    assert anyone.inside("app", look).split() == ["one", "n"]
    anyone("undo")
    assert anyone.inside("app", "cat /srv/own; ls -d /srv/new /etc/skel/x; ls /nameless").split() == [
        "two",
        "/etc/skel/x",
        "/srv/new",
    ]
    anyone("undo")
    assert anyone.inside("app", look).split() == ["one", "n"]
    # A container of another image keeps its files, one that was made anew gets those of then.
    anyone("up", "-d", "--force-recreate")
    assert anyone.inside("app", "ls /srv") == ""
    anyone("snapshot", "restore", "first")
    assert anyone.inside("app", look).split() == ["one", "n"]
    anyone("down")
    told = anyone("snapshot", "restore", "first").stderr
    assert "there is no such container now" in told
    anyone("down", "-v")


# -- archives and seeds -----------------------------------------------------------------------------------------------

SEEDED = """
    name: seeded
    SEED
    services:
      db:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["data:/data", "empty:/empty"]
    volumes: {data: {}, empty: {}}
"""


def test_a_snapshot_as_a_seed_for_the_first_up(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SEEDED.replace("SEED", ""))
    anyone("up", "-d")
    script = "mkdir /data/d; echo one >/data/d/f; ln -s d/f /data/l; ln /data/d/f /data/hard; chmod 700 /data"
    anyone.inside("db", f"{script}; chown 0:0 /data/d/f; touch -d @1000000000 /data/d/f")
    anyone("snapshot", "save", "first")
    for number in (1, 2):
        anyone("snapshot", "export", "first", "-o", f"seed{number}.tar.gz")
    assert (project / "seed1.tar.gz").read_bytes() == (project / "seed2.tar.gz").read_bytes()
    anyone.inside("db", "echo mine >/data/d/f")
    project.write(SEEDED.replace("SEED", "seed: ./seed1.tar.gz"))
    anyone("up", "-d", "--force-recreate")
    # What is there is never replaced.
    assert anyone.inside("db", "cat /data/d/f") == "mine"
    anyone("down", "-v")
    anyone("up", "-d")
    assert anyone.inside("db", "cat /data/d/f /data/l /data/hard").split() == ["one"] * 3
    assert anyone.inside("db", "stat -c '%a %U' /data; stat -c '%Y %h' /data/d/f; ls -A /empty").split() == [
        *("700", "root"),
        *("1000000000", "2"),
    ]
    # Somebody else's machine: the archive as a snapshot.
    anyone("snapshot", "import", "theirs", "seed2.tar.gz")
    anyone.inside("db", "rm -r /data/d")
    anyone("snapshot", "restore", "theirs")
    assert anyone.inside("db", "cat /data/d/f") == "one"


def test_a_seed_that_can_not_be_used_makes_nothing(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SEEDED.replace("SEED", "x-devenv: {seed: seed.tar}"))
    assert "`seed: seed.tar` is not there" in devenv("up", "-d", code=2).stderr
    (project / "seed.tar").write_bytes(b"no archive")
    assert "can't be unpacked" in devenv("up", "-d", code=1).stderr
    (project / "seed.tar").write_bytes(archive({"data/../../../escaped": b"x"}))
    assert "would lead out" in devenv("up", "-d", code=1).stderr
    whole = archive({"data/f": b"x" * 4096})
    (project / "seed.tar").write_bytes(whole[:2048])
    assert "can't be unpacked" in devenv("up", "-d", code=1).stderr
    assert "seeded_data" not in devenv("volume", "ls", "-q").stdout
    (project / "seed.tar").write_bytes(whole)
    devenv("up", "-d")
    assert devenv.inside("db", "wc -c </data/f") == "4096"


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()
