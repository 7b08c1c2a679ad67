"""Images from a registry in a project: pulled when they are needed, by every policy, as root and as ordinary users."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests import ocilayout
from tests.support import distribution, machine, projects, runner

pytestmark = [pytest.mark.root, distribution.needed, machine.needs_binary("busybox"), machine.needs_binary("skopeo")]


class Shelf:
    """A registry that has busybox, and can be given other versions of it."""

    def __init__(self, host: str, folder: pathlib.Path) -> None:
        self.host = host
        self._folder = folder
        self._count = 0

    def put(self, name: str, **config: object) -> None:
        self._count += 1
        layout = self._folder / str(self._count)
        ocilayout.busybox_layout(layout, config={"Cmd": ["sleep", "1000"], **config})
        done = subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{self.host}/{name}"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("shelf")
    with distribution.running(folder) as host:
        made = Shelf(host, folder)
        made.put("app:1", Env=["PATH=/bin", "VERSION=1"])
        yield made


def spec(shelf: Shelf, more: str = "", name: str = "app:1") -> str:
    return f"name: shop\nservices:\n  app:\n    image: {shelf.host}/{name}\n    stop_grace_period: 0s\n{more}"


def version(devenv: runner.Devenv) -> str:
    return devenv.inside("app", "echo $VERSION")


def test_an_image_of_a_registry_just_works(anyone: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf))
    said = anyone("up", "-d").stderr
    assert f"Image {shelf.host}/app:1  Pulling" in said
    assert f"Image {shelf.host}/app:1  Pulled" in said
    assert version(anyone) == "1"
    assert "Pull" not in anyone("up", "-d").stderr


def test_it_is_not_pulled_again_and_needs_no_registry(
    devenv: runner.Devenv, project: projects.Project, tmp_path: pathlib.Path
) -> None:
    with distribution.running(tmp_path) as host:
        Shelf(host, tmp_path).put("app:1")
        project.write(spec(Shelf(host, tmp_path)))
        devenv("pull")
    devenv("up", "-d")
    assert "can't be reached" in devenv("up", "-d", "--pull", "always", code=4).stderr
    project.edit("stop_grace", "pull_policy: daily\n    stop_grace")
    assert "Pull" not in devenv("up", "-d").stderr
    project.edit("daily", "every_0s")
    assert f"Image {host}/app:1  Kept  image `{host}/app:1`: " in devenv("up", "-d").stderr


@pytest.mark.parametrize(
    ("policy", "moves"),
    [
        ("always", True),
        ("missing", False),
        ("if_not_present", False),
        ("never", False),
        ("weekly", False),
        ("every_0s", True),
    ],
)
def test_policies(devenv: runner.Devenv, project: projects.Project, shelf: Shelf, policy: str, moves: bool) -> None:
    name = f"{policy.replace('_', '-')}:1"
    shelf.put(name, Env=["PATH=/bin", "VERSION=1"])
    project.write(spec(shelf, f"    pull_policy: {policy}\n", name))
    if policy == "never":
        result = devenv("up", "-d", code=4)
        assert f"image `{shelf.host}/{name}` is not here" in result.stderr
        assert "pull_policy" in result.stderr
        devenv("up", "-d", "--pull", "missing")
    else:
        devenv("up", "-d")
    shelf.put(name, Env=["PATH=/bin", "VERSION=2"])
    devenv("up", "-d")
    assert version(devenv) == ("2" if moves else "1")
    devenv("up", "-d", "--pull", "always")
    assert version(devenv) == "2"


def test_a_dry_run_pulls_nothing(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf))
    assert "container.create  service:app:1" in devenv("plan").stdout
    assert "container.create  service:app:1" in devenv("up", "--dry-run").stdout
    assert not list(pathlib.Path(devenv.data).glob("blobs/sha256/*"))


def test_one_image_for_many_services(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf, f"  other:\n    image: {shelf.host}/app:1\n    stop_grace_period: 0s\n"))
    assert devenv("up", "-d").stderr.count("  Pulling") == 1
    assert len(devenv.ps()) == 2


def test_what_cannot_be_pulled_is_said(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf, name="app:7"))
    result = devenv("up", "-d", code=4)
    assert f"image `{shelf.host}/app:7`: `{shelf.host}` has no `app:7`" in result.stderr
    assert "hint: check the name and the tag" in result.stderr
    assert devenv.ps() == {}


def test_pull_as_docker_compose_has_it(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(
        spec(
            shelf,
            f"""\
    depends_on: [db]
  db: {{image: "{shelf.host}/app:1"}}
  built: {{image: "{shelf.host}/nobody:1", build: .}}
  local: {{image: "host:"}}
  gone: {{image: "{shelf.host}/gone:1"}}
  mine: {{image: "{shelf.host}/app:1", pull_policy: never}}
""",
        )
    )
    first = devenv("pull", code=4).stderr
    assert "Image host:  Skipped  it is on this machine" in first
    assert "Skipped  its pull policy is `never`" in first
    assert f"Image {shelf.host}/nobody:1  Error" in first
    assert f"Image {shelf.host}/gone:1  Error" in first
    assert "note: also: image" in first
    devenv("pull", "--ignore-pull-failures")
    assert "up to date" in devenv("pull", "app", "--include-deps").stderr
    assert "Skipped  it can be built" in devenv("pull", "built", "--ignore-buildable").stderr
    assert "Skipped  it is here" in devenv("pull", "--policy", "missing", "app").stderr
    assert devenv("pull", "-q", "app").stderr == ""
    lines = devenv("--progress", "json", "pull", "app").stderr.splitlines()
    assert json.loads(lines[-1])["text"] == "Pulled"
    project.edit("stop_grace", "build: .\n    stop_grace")
    assert "is not here" in devenv("push", code=4).stderr
    assert f"Image {shelf.host}/app:1  Pushed" in devenv("push", "--ignore-push-failures").stderr
    assert "Skipped  it is not built here" in devenv("push", "db").stderr


def test_image_pull_and_push(anyone: runner.Devenv, shelf: Shelf) -> None:
    """Without any project."""
    shelf.put("many:1")
    shelf.put("many:2")
    assert anyone("image", "pull", "-q", f"{shelf.host}/many:1").stdout == f"{shelf.host}/many:1\n"
    assert anyone("image", "pull", "-qa", f"{shelf.host}/many").stdout == f"{shelf.host}/many:1\n{shelf.host}/many:2\n"
    pushed = anyone("image", "push", "-qa", f"{shelf.host}/many").stdout.splitlines()
    assert [line.partition("@")[0] for line in pushed] == [f"{shelf.host}/many:1", f"{shelf.host}/many:2"]
    assert "`--all-tags` takes a repository" in anyone("image", "pull", "-a", f"{shelf.host}/many:1", code=2).stderr
    assert "there is nothing to pull" in anyone("image", "pull", "host:", code=2).stderr
    assert "is not here" in anyone("image", "push", f"{shelf.host}/nothing", code=4).stderr


def test_login(devenv: runner.Devenv, project: projects.Project, tmp_path: pathlib.Path) -> None:
    """A supervisor that was there before the login uses the command's."""
    devenv.env["HOME"] = str(tmp_path / "home")
    os.mkdir(devenv.env["HOME"])
    with distribution.running(tmp_path, login=True) as host:
        layout = tmp_path / "layout"
        ocilayout.busybox_layout(layout, config={"Cmd": ["sleep", "1000"]})
        creds = f"{distribution.USER}:{distribution.PASSWORD}"
        skopeo = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", creds]
        subprocess.run([*skopeo, f"oci:{layout}:latest", f"docker://{host}/app:1"], check=True)
        project.write(spec(Shelf(host, tmp_path)))
        assert f"hint: log in with `devenv registry login {host}`" in devenv("up", "-d", code=4).stderr
        wrong = devenv("registry", "login", host, "-u", "me", "--password-stdin", input="wrong\n", code=4)
        assert "does not let me do this" in wrong.stderr
        done = devenv("registry", "login", host, "-u", "me", "--password-stdin", input=f"{distribution.PASSWORD}\n")
        assert done.stdout == "Login Succeeded\n"
        devenv("up", "-d")
        assert devenv("registry", "logout", host).stdout == f"Removed the login for {host}\n"
        assert "there is no login" in devenv("registry", "logout", host, code=2).stderr
        assert "use `--username NAME --password-stdin`" in devenv("registry", "login", host, code=2).stderr


def test_a_down_interrupts_a_pull(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    """And leaves the store clean: what arrived is kept, nothing has a name."""
    with distribution.Wire(int(shelf.host.rpartition(":")[2]), []) as wire:
        wire.hold(30_000)
        project.write(spec(Shelf(f"localhost:{wire.port}", pathlib.Path("/"))))
        up = devenv.start("up", "-d")
        assert wire.held.wait(30)
        devenv("down")
        assert up.wait(30) != 0
        assert up.stdout is not None
        up.stdout.close()
        assert not os.path.exists(f"{devenv.data}/names.json")
        assert not os.listdir(f"{devenv.data}/layers")
        wire.release()
        devenv("up", "-d")
        assert version(devenv) == "1"
