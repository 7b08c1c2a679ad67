"""Files are yours: whose are files of bind mounts, made on both sides, as root and as an ordinary user."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest

from tests.support import filesystem, isolation, machine, projects, runner

PERSON = (4711, 4712)

PROJECT = """
    name: owned
    services:
      app:
        image: "host:"
        {user}
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["{mount}"]
"""


USERS = """
    name: owned
    x-base: &base {{image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}}
    services:
      root: {{<<: *base, volumes: ["./root:/src"]}}
      other: {{<<: *base, volumes: ["./other:/src"], user: "999"}}
      person: {{<<: *base, volumes: ["./person:/src"], user: "{}:{}"}}
""".format(*PERSON)


def owners(path: str | os.PathLike[str]) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_uid, found.st_gid


def own(path: pathlib.Path, owner: tuple[int, int] = PERSON) -> None:
    for folder, _, files in os.walk(path):
        for name in (".", *files):
            os.chown(os.path.join(folder, name), *owner)


@pytest.mark.root
@machine.needs_root
@machine.needs_kernel(6, 3)  # a tmpfs that maps ids
@pytest.mark.parametrize("kind", filesystem.kinds("tmpfs", "ext4", "btrfs", "xfs"))
def test_as_root_every_filesystem(devenv: runner.Devenv, short_path: pathlib.Path, kind: str) -> None:
    """The container's root, a user of its own and the person's own number, each in turn, on files of the person's."""
    with filesystem.mounted(kind, short_path / "fs", short_path / "images"):
        project = projects.Project(short_path / "fs" / "project").write(USERS)
        for name in ("root", "other", "person"):
            project.write({f"{name}/theirs": "ours\n"})
            os.chmod(project / name / "theirs", 0o600)
        own(project.path)
        devenv.cwd = str(project.path)
        devenv("up", "-d")
        for name, inside in (("root", "0:0"), ("other", "999:0"), ("person", "4711:4712")):
            script = "cd /src; stat -c %u:%g . theirs; cat theirs; echo x >> theirs; mkdir d; echo x > d/f"
            assert devenv.inside(name, script).split() == [inside, inside, "ours"]
            for made in ("theirs", "d", "d/f"):
                assert owners(project / name / made) == PERSON
            # And root, whoever runs: it may write what is there.
            devenv("exec", "-T", "-u", "0", name, "sh", "-c", "echo x >> /src/theirs")
            assert (project / name / "theirs").read_text() == "ours\nx\nx\n"
        devenv("down")


@pytest.fixture
def theirs(devenv: runner.Devenv, project: projects.Project) -> Callable[..., runner.Devenv]:
    """A project of somebody's that root starts."""

    def up(mount: str, user: str = "") -> runner.Devenv:
        project.write(PROJECT.format(user=user, mount=mount))
        own(project.path)
        devenv("up", "-d")
        return devenv

    return up


@pytest.mark.root
@machine.needs_root
@machine.needs_kernel(5, 12)
class TestChoices:
    def test_a_missing_source_is_the_persons(
        self, theirs: Callable[..., runner.Devenv], project: projects.Project
    ) -> None:
        theirs("./new/er:/src").inside("app", "touch /src/made")
        assert {owners(project / name) for name in ("new", "new/er", "new/er/made")} == {PERSON}

    def test_no_is_said_per_mount(self, theirs: Callable[..., runner.Devenv], project: projects.Project) -> None:
        theirs(".:/src:noidmap").inside("app", "touch /src/made")
        assert owners(project / "made") == (0, 0)

    def test_nothing_outside_the_project_unless_asked(
        self, theirs: Callable[..., runner.Devenv], project: projects.Project, short_path: pathlib.Path
    ) -> None:
        os.chown(short_path, *PERSON)
        assert theirs(f"{short_path}:/out").inside("app", "stat -c %u:%g /out").strip() == "4711:4712"
        assert theirs(f"{short_path}:/out:idmap").inside("app", "stat -c %u:%g /out").strip() == "0:0"

    def test_a_users_name_is_looked_up_in_the_image(
        self, theirs: Callable[..., runner.Devenv], project: projects.Project
    ) -> None:
        theirs(".:/src", "user: nobody").inside("app", "touch /src/made")
        assert owners(project / "made") == PERSON

    def test_another_user_than_the_services(self, devenv: runner.Devenv, project: projects.Project) -> None:
        """An image that starts as root and drops to a user of its own."""
        text = PROJECT.format(user="", mount="X").replace(
            '["X"]', '[{type: bind, source: ., target: /src, bind: {x-idmap: "999:998"}}]'
        )
        project.write(text)
        own(project.path)
        devenv("up", "-d")
        devenv("exec", "-T", "-u", "999:998", "app", "touch", "/src/made")
        assert owners(project / "made") == PERSON
        assert devenv.inside("app", "stat -c %u:%g /src/made").strip() == "999:998"

    def test_the_number_that_is_given_up_is_nobodys(
        self, theirs: Callable[..., runner.Devenv], project: projects.Project
    ) -> None:
        """Not root's, which a user of the container would otherwise get to be on this machine."""
        devenv = theirs("./:/src")
        os.chmod(project.path, 0o777)
        devenv("exec", "-T", "-u", "4711:4712", "app", "touch", "/src/made")
        assert 0 not in owners(project / "made")

    def test_where_it_cannot_be_it_is_said(
        self, devenv: runner.Devenv, project: projects.Project, short_path: pathlib.Path
    ) -> None:
        """On an overlay, for one."""
        for name in ("lower", "upper", "work"):
            (short_path / name).mkdir()
        place = project / "over"
        place.mkdir()
        options = ",".join(
            f"{key}={short_path}/{key.removesuffix('dir')}" for key in ("lowerdir", "upperdir", "workdir")
        )
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(place)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            # The folder of the tests is on an overlay itself.
            subprocess.run(["mount", "-t", "sysfs", "sysfs", str(place)], check=True)
        try:
            project.write(PROJECT.format(user="", mount="./over:/src"))
            own(project.path)
            done = devenv("up", "-d")
            assert "the files in" in done.stderr
            assert "can't map ids" in done.stderr
            assert devenv.inside("app", "stat -c %u:%g /src").strip() == "4711:4712"
            devenv("down")
        finally:
            subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
@machine.needs_root
@machine.needs_kernel(5, 19)
def test_in_a_user_namespace_of_its_own(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT.format(user="userns_mode: auto", mount=".:/src"))
    own(project.path)
    devenv("up", "-d")
    assert devenv.inside("app", "touch /src/made; stat -c %u:%g /src /src/made /usr").split() == ["0:0"] * 3
    assert owners(project / "made") == PERSON


@pytest.mark.root
@machine.needs_root
@pytest.mark.parametrize("name", ["dvrange", "dvplain"])
@pytest.mark.parametrize("kind", filesystem.kinds("tmpfs", "ext4", "btrfs", "xfs"))
def test_as_an_ordinary_user_every_filesystem(
    devenv_as: Callable[[str], runner.Devenv],
    surroundings: isolation.Session,
    short_path: pathlib.Path,
    kind: str,
    name: str,
) -> None:
    """The container's root is the person and no other can be, whatever the filesystem: a user of a container is an id
    of the person's range, has what others have of the person's files, and without a range there is none."""
    devenv, person = devenv_as(name), surroundings.users[name].uid
    with filesystem.mounted(kind, short_path / "fs", short_path / "images"):
        os.chmod(short_path / "fs", 0o755)
        project = projects.Project(short_path / "fs" / "project", person).write(USERS.replace("4711:4712", str(person)))
        devenv.cwd = str(project.path)
        services = ("root", "other", "person")
        for service in services:
            project.write({f"{service}/theirs": "ours\n", f"{service}/closed": "ours\n"})
            os.chmod(project / service, 0o777)
            os.chmod(project / service / "theirs", 0o644)
            os.chmod(project / service / "closed", 0o600)
        own(project.path, (person, person))
        if name == "dvplain":
            told = devenv("up", "-d", "other", code=None)
            assert "belongs to" not in told.stderr
            assert "user 999:0 does not exist in this user namespace" in told.stderr
            assert told.returncode == 1
            services = ("root",)
        told = devenv("up", "-d", *services)
        for service in services:
            script = "cd /src; stat -c %u:%g theirs; cat theirs; mkdir d; echo x > d/f; cat closed 2>&1; exit 0"
            said = devenv.inside(service, script).split("\n")
            assert said[:2] == ["0:0", "ours"]
            on_disk = owners(project / service / "d/f")[0]
            if service == "root":
                assert on_disk == person
                assert said[2] == "ours"
            else:
                assert on_disk not in {0, person}
                assert "Permission denied" in said[2]
                assert f"belongs to {on_disk} on this machine" in told.stderr
        devenv("down")


def test_as_an_ordinary_user_root_is_the_person(
    devenv_as: Callable[[str], runner.Devenv],
    rootless_user: isolation.User,
    short_path: pathlib.Path,
) -> None:
    devenv = devenv_as(rootless_user.name)
    project = projects.Project(short_path / "project", rootless_user.uid)
    devenv.cwd = str(project.path)
    project.write(PROJECT.format(user="", mount="./src:/src"))
    assert "belongs to" not in devenv("up", "-d").stderr
    devenv.inside("app", "touch /src/made")
    assert {owners(project / name) for name in ("src", "src/made")} == {(rootless_user.uid, rootless_user.uid)}
    # Another one can't be, and that is said.
    project.write(PROJECT.format(user='user: "999"', mount="./src:/src"))
    told = devenv("up", "-d").stderr
    os.chmod(project / "src", 0o777)
    devenv.inside("app", "touch /src/other")
    assert f"what its user 999 makes belongs to {owners(project / 'src/other')[0]} on this machine" in told
    assert owners(project / "src/other")[0] != rootless_user.uid
    project.write(PROJECT.format(user='user: "999"', mount="./src:/src:noidmap"))
    assert "belongs to" not in devenv("up", "-d").stderr
