"""Where to look, on the kernel's own inotify: what is lost there is found all the same."""

from __future__ import annotations

import os
import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from devenv.linux import namespace
from devenv.sync import tree, watcher
from tests.support.polling import eventually


class Watched:
    """A tree that is kept up by a watcher, as a session does it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = str(root)
        self.warnings: list[tuple[str, str]] = []
        self.looks = 0
        self.tree = tree.Tree(self.root, self._skip)
        self._wake = threading.Event()
        self.watcher = watcher.Watcher(
            [self.root], skip=self._skip, notify=self._wake.set, warn=lambda *words: self.warnings.append(words)
        )
        self.watcher.start()
        self.tree.look(self.root, deep=True)

    def _skip(self, path: str, _is_folder: bool) -> bool:
        return "node_modules" in path

    def step(self) -> None:
        due = self.watcher.due()
        if due is None or due > time.monotonic():
            return
        changes = self.watcher.take()
        self.looks += changes.everything
        if changes.everything:
            self.tree.look(self.root, deep=True)
        for path, deep in changes.paths.items():
            self.tree.look(path, deep=deep)

    def knows(self) -> set[str]:
        return {os.path.relpath(path, self.root) for path in self.tree.paths()}

    def level(self) -> None:
        """Waits until what is known is what is there."""

        def same() -> bool:
            self.step()
            there = {
                os.path.relpath(os.path.join(folder, name), self.root)
                for folder, folders, files in os.walk(self.root)
                for name in (*folders, *files)
                if "node_modules" not in os.path.join(folder, name)
            }
            assert self.knows() == there
            return True

        eventually(same, 10.0)


@pytest.fixture
def watched(tmp_path: pathlib.Path) -> Iterator[Callable[[], Watched]]:
    made: list[Watched] = []

    def begin() -> Watched:
        made.append(Watched(tmp_path / "p"))
        return made[-1]

    (tmp_path / "p/a/b").mkdir(parents=True)
    yield begin
    for each in made:
        each.watcher.close()


def test_folders_that_move_come_back_and_are_left_out(watched: Callable[[], Watched], tmp_path: pathlib.Path) -> None:
    found, root = watched(), tmp_path / "p"
    (root / "a/b/c/d").mkdir(parents=True)
    (root / "node_modules/x").mkdir(parents=True)
    found.level()
    assert found.watcher.count == 5  # none for what is left out
    (root / "a").rename(root / "z")
    (root / "z/b/c/d/f").write_text("")
    found.level()
    assert found.watcher.count == 5
    shutil.rmtree(root / "z")
    (root / "z").mkdir()
    (root / "z/again").write_text("")
    found.level()


def test_the_root_goes_and_comes_back(watched: Callable[[], Watched], tmp_path: pathlib.Path) -> None:
    found, root = watched(), tmp_path / "p"
    root.rename(tmp_path / "elsewhere")
    found.level()
    root.mkdir()
    (root / "new").mkdir()
    found.level()
    (root / "new/f").write_text("")
    found.level()


def test_a_queue_that_overflows_loses_nothing(watched: Callable[[], Watched], tmp_path: pathlib.Path) -> None:
    found, root = watched(), tmp_path / "p"
    inotify = found.watcher._inotify
    assert inotify is not None
    limit = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    # While its thread can't handle what it has read, the kernel's queue fills up.
    with found.watcher._lock:
        (root / "blocks").write_text("")
        for number in range(limit // 2 + 2000):
            (root / "a" / str(number % 500)).write_text("x")
            (root / "a" / str(number % 500)).unlink()
        (root / "made/in/the/gap").mkdir(parents=True)
        (root / "made/in/the/gap/f").write_text("")
    found.level()
    eventually(lambda: found.step() or found.looks > 0, 10.0)
    assert found.watcher._inotify is not inotify  # folders were watched anew
    (root / "made/in/the/gap/g").write_text("")
    found.level()


def test_without_watches_it_says_so_and_polls(tmp_path: pathlib.Path) -> None:
    """In a user namespace of its own, which has a limit of its own (namespaces(7), /proc/sys/user)."""
    for number in range(20):
        (tmp_path / f"p/d{number}").mkdir(parents=True)
    owner = os.geteuid()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            namespace.unshare(namespace.CLONE_NEWUSER)
            pathlib.Path("/proc/self/uid_map").write_text(f"0 {owner} 1")
            pathlib.Path("/proc/sys/user/max_inotify_watches").write_text("5")
            found = Watched(tmp_path / "p")
            (tmp_path / "p/d19/f").write_text("")
            found.level()
            os.write(write, "\n".join(found.warnings[0]).encode())
            code = 0 if len(found.warnings) == 1 else 2
        except BaseException as exc:  # noqa: BLE001  nothing may unwind into pytest
            os.write(write, f"{type(exc).__name__}: {exc}".encode())
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    assert "inotify watches is reached" in said
    assert "looking for changes every second" in said
    assert "sudo sysctl fs.inotify.max_user_watches=" in said
