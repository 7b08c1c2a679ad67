"""Fixtures for all tests, and the rules: own namespaces, no skips in CI, nothing left behind.

devenv        the command line as the user who runs the tests (root in CI)
devenv_as     devenv_as("dvrange") | devenv_as("dvplain"): as a user with, or without, /etc/subuid ranges
anyone        the same test as root, as a user with ranges and as a user without
project       an empty project folder; project.write({...}) fills it; devenv runs in it
terminal_for  terminal_for(devenv, "up"): a command on a real terminal
"""

from __future__ import annotations

import itertools
import os
import pathlib
import shutil
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.support import isolation, leaks, machine, polling, projects, runner, terminal

_SESSION = pytest.StashKey[isolation.Session]()
_BEFORE = pytest.StashKey[leaks.Remains]()
_STRICT = ("tests/integration/", "tests/e2e/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sweep", action="store_true", help="inject every fault instead of a sample: many minutes")
    parser.addoption("--soak", action="store_true", help="floods of a minute, thousands of execs: many minutes")


def pytest_configure(config: pytest.Config) -> None:
    if _hands_out(config):
        # The workers have namespaces and users each of their own: nothing of theirs may come from here.
        config.stash[_BEFORE] = leaks.Remains.look()
    else:
        worker = hasattr(config, "workerinput")
        config.stash[_SESSION] = isolation.enter(isolation.prefix(os.getppid())) if worker else isolation.enter()


def _hands_out(config: pytest.Config) -> bool:
    """Whether this process runs no test itself, but has pytest-xdist's workers do it."""
    return bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """While workers run side by side none can tell whose a cgroup or a folder is: looked at when all have ended."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    # A worker that takes long to remove its files is ended amidst that. Its mounts ended with it.
    for folder in pathlib.Path("/tmp").glob(f"{isolation.prefix(os.getpid())}*"):
        shutil.rmtree(folder, ignore_errors=True)
    if not machine.in_ci():
        return
    try:
        polling.eventually(lambda: leaks.nothing_since(before), 10.0)
    except AssertionError as error:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.get_terminal_writer().line(f"\nERROR by the whole run: {error}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if session := config.stash.get(_SESSION, None):
        isolation.leave(session)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(machine.needs_root)


# -- in CI a skip is a failure ------------------------------------------------------------------------------------


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (machine.in_ci() and report.skipped and report.nodeid.startswith(_STRICT)) or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not machine.skip_is_allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


# -- surroundings -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def surroundings(pytestconfig: pytest.Config) -> isolation.Session:
    session = pytestconfig.stash[_SESSION]
    if session.users:
        isolation.install(session)
    return session


_numbers = itertools.count(1)


@pytest.fixture
def short_path(surroundings: isolation.Session) -> pathlib.Path:
    """A folder with a short name that other users may enter; pytest's own are long and closed."""
    path = pathlib.Path(f"{surroundings.folder}/{next(_numbers)}")
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest, surroundings: isolation.Session) -> Iterator[set[str]]:
    """For integration and end-to-end tests: the machine looks afterwards as it did before.

    Yields the set of names (project ids, container ids) whose cgroups must be gone; the runners add theirs.
    """
    if not request.node.nodeid.startswith(_STRICT):
        yield set()
        return
    ids: set[str] = set()
    alone = machine.in_ci() and not hasattr(request.config, "workerinput")
    before = leaks.Picture.take(surroundings.folder)
    yield ids

    def clean() -> bool:
        found = leaks.Picture.take(surroundings.folder).leaks_since(before, ids, alone=alone)
        assert not found, "left behind:\n  " + "\n  ".join(found)
        return True

    polling.eventually(clean, 5.0, interval=0.05)


@pytest.fixture
def devenv_as(surroundings: isolation.Session, no_leaks: set[str]) -> Iterator[Callable[[str], runner.Devenv]]:
    """Call it with a user's name for another installation; `root` is the user who runs the tests."""
    made: list[runner.Devenv] = []

    def make(name: str) -> runner.Devenv:
        folder = f"{surroundings.folder}/{next(_numbers)}"
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        if name == "root":
            found = runner.Devenv(folder, runner.own_command())
        else:
            if name not in surroundings.users:
                pytest.skip("needs root")
            user = surroundings.users[name]
            os.chown(folder, user.uid, user.uid)
            found = runner.Devenv(folder, isolation.install(surroundings), user)
        made.append(found)
        return found

    yield make
    for each in made:
        each.close()
        no_leaks.update(each.ids)


@pytest.fixture
def devenv(devenv_as: Callable[[str], runner.Devenv]) -> runner.Devenv:
    return devenv_as("root")


@pytest.fixture(params=["root", "dvrange", "dvplain"])
def anyone(request: pytest.FixtureRequest, devenv_as: Callable[[str], runner.Devenv]) -> runner.Devenv:
    return devenv_as(request.param)


@pytest.fixture
def rootless_user(surroundings: isolation.Session) -> isolation.User:
    """A user with /etc/subuid and /etc/subgid ranges."""
    if "dvrange" not in surroundings.users:
        pytest.skip("needs root")
    return surroundings.users["dvrange"]


@pytest.fixture
def plain_user(surroundings: isolation.Session) -> isolation.User:
    """A user without ranges: a single id is all there is to map."""
    if "dvplain" not in surroundings.users:
        pytest.skip("needs root")
    return surroundings.users["dvplain"]


@pytest.fixture
def project(request: pytest.FixtureRequest) -> projects.Project:
    """The folder that commands run in. Belongs to whoever runs them."""
    name = "anyone" if "anyone" in request.fixturenames else "devenv"
    command: runner.Devenv = request.getfixturevalue(name)
    made = projects.Project(pathlib.Path(command.folder, "p"), command.user.uid if command.user else None)
    command.cwd = str(made.path)
    return made


@pytest.fixture
def terminal_for(no_leaks: set[str]) -> Iterator[Callable[..., terminal.Terminal]]:
    """terminal_for(devenv, "up") runs the command on a terminal."""
    made: list[terminal.Terminal] = []

    def open_terminal(command: runner.Devenv, *arguments: str, **more: Any) -> terminal.Terminal:
        made.append(
            terminal.Terminal(
                f"{command.folder}/tmux{len(made)}",
                [command.command, *arguments],
                cwd=command.cwd,
                env=command.environment(),
                user=command.user,
                **more,
            )
        )
        return made[-1]

    yield open_terminal
    for each in made:
        each.close()


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """soak(few, many): how often or how long, by whether `--soak` is given."""
    return lambda few, many: many if request.config.getoption("--soak") else few


@pytest.fixture
def eventually() -> Callable[..., object]:
    return polling.eventually
