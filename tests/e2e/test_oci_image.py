"""Real images: what an OCI layout says of its process is what runs, unless the spec says otherwise."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from tests import ocilayout
from tests.support import machine, projects, runner
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

TRAP = "trap 'echo quit; exit 5' QUIT; trap 'echo term; exit 6' TERM; echo \"$0 $*\"; while :; do sleep 0.02; done"
CONFIG: dict[str, Any] = {
    "Entrypoint": ["sh", "-c", TRAP],
    "Cmd": ["from-cmd", "one", "two words"],
    "Env": ["PATH=/bin:/usr/bin", "GREETING=hello", "EMPTY="],
    "User": "www",
    "WorkingDir": "/srv",
    "Volumes": {"/srv": {}, "/var/lib": {}},
    "StopSignal": "SIGQUIT",
    "Labels": {"maker": "tests"},
    "ExposedPorts": {"8080/tcp": {}},
    "Healthcheck": {"Test": ["CMD-SHELL", "test -e /tmp/ready"], "Interval": 100_000_000, "Timeout": 5_000_000_000},
}


def layout(project: projects.Project, **config: Any) -> None:
    path = project / "images"
    ocilayout.busybox_layout(path, config={**CONFIG, **config})
    for parent, folders, files in os.walk(path):
        for name in (".", *folders, *files):
            project._own(pathlib.Path(parent, name))


def spec(more: str = "", rest: str = "") -> str:
    return f'name: real\nservices:\n  app: {{image: "oci:images"{", " * bool(more)}{more}}}\n{rest}'


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_the_images_configuration_counts(anyone: runner.Devenv, project: projects.Project) -> None:
    layout(project)
    project.write(spec())
    anyone("up", "-d")
    eventually(lambda: anyone("logs", "--no-log-prefix").stdout == "from-cmd one two words\n")
    assert anyone.inside("app", "id -un; id -G; pwd; echo $GREETING; echo ${EMPTY-unset}; echo $HOME").split("\n") == [
        "www",
        "33 44",
        "/srv",
        "hello",
        "",
        "/srv",
    ]
    # Not its process alone: no shell of the machine's, but busybox.
    assert anyone.inside("app", "readlink /bin/sh; ls /usr/lib /opt 2>/dev/null; true") == "busybox"
    row = anyone.ps()["real-app-1"]
    assert row["Ports"] == "8080/tcp"
    assert row["Image"] == "oci:images"
    assert "maker=tests" in row["Labels"]
    assert row["Health"] in {"starting", "unhealthy"}
    anyone.inside("app", "touch /tmp/ready")
    eventually(lambda: anyone.ps()["real-app-1"]["Health"] == "healthy")
    anyone("stop")
    assert anyone.ps()["real-app-1"]["ExitCode"] == 5
    assert anyone("logs", "--no-log-prefix").stdout.split("\n")[-2] == "quit"


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_volumes_of_the_image(anyone: runner.Devenv, project: projects.Project) -> None:
    """They begin with what the image has there, outlive a new container, and go with `down -v`."""
    layout(project)
    project.write(spec("environment: {A: '1'}"))
    anyone("up", "-d")
    assert anyone.inside("app", "cat /srv/index.html; stat -c %u /srv /srv/index.html").split("\n") == [
        "it works",
        "33",
        "33",
    ]
    assert anyone.inside("app", "grep -c ' /srv \\| /var/lib ' /proc/mounts") == "2"
    anyone.inside("app", "echo changed >/srv/index.html; echo gone >/tmp/x")
    project.edit("A: '1'", "A: '2'")
    anyone("up", "-d", "-t", "0")
    assert anyone.inside("app", "cat /srv/index.html; echo $A; ls /tmp").split() == ["changed", "2"]
    volumes = pathlib.Path(anyone.data, "volumes")
    assert len(list(volumes.glob("*/*/_data"))) == 2
    anyone("down", "-v", "-t", "0")
    assert list(volumes.glob("*/*/_data")) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("command: [other, words]", "other words"),
        ("command: a 'b c'", "a b c"),
        ("entrypoint: [echo, only]", "only"),
        ("entrypoint: [echo], command: [both, of, them]", "both of them"),
        ("entrypoint: [], command: [echo, plain]", "plain"),
    ],
)
def test_what_the_spec_says_wins(devenv: runner.Devenv, project: projects.Project, more: str, expected: str) -> None:
    layout(project)
    project.write(spec(f"{more}, stop_signal: SIGKILL"))
    devenv("up", "-d")
    eventually(lambda: devenv("logs", "--no-log-prefix").stdout == f"{expected}\n")


def test_each_attribute_wins_over_the_image(devenv: runner.Devenv, project: projects.Project) -> None:
    layout(project)
    project.write(
        spec(
            "user: root, working_dir: /etc, environment: {GREETING: bye, EMPTY: full}, stop_signal: TERM, "
            "labels: {maker: me}, volumes: ['data:/srv'], healthcheck: {test: [CMD, 'true']}",
            "volumes: {data: {}}\n",
        )
    )
    devenv("up", "-d", "--wait")
    assert devenv.inside("app", "id -u; pwd; echo $GREETING $EMPTY").split("\n") == ["0", "/etc", "bye full"]
    assert "maker=me" in devenv.ps()["real-app-1"]["Labels"]
    # The interval is still the image's: a tenth of a second.
    assert devenv.inside("app", "cat /srv/index.html") == "it works"
    devenv("stop")
    assert devenv.ps()["real-app-1"]["ExitCode"] == 6
    project.write(spec("healthcheck: {disable: true}, stop_signal: SIGKILL"))
    devenv("up", "-d", "--wait")
    assert devenv.ps()["real-app-1"]["Health"] == ""


def test_a_user_without_ranges_runs_what_root_runs(devenv_as: Any) -> None:
    devenv: runner.Devenv = devenv_as("dvplain")
    assert devenv.user is not None
    project = projects.Project(pathlib.Path(devenv.folder, "p"), devenv.user.uid)
    devenv.cwd = str(project.path)
    layout(project, User="", Volumes={}, StopSignal="SIGKILL")
    project.write(spec())
    said = devenv("up", "-d").stderr
    assert devenv.inside("app", "id -u; pwd; cat index.html").split("\n") == ["0", "/srv", "it works"]
    assert "Traceback" not in said
    # With the image's own user it is told why not.
    layout(project)
    said = devenv("up", "-d", code=1).stderr
    assert "subuid" in said


def test_a_new_image_makes_the_container_anew(devenv: runner.Devenv, project: projects.Project) -> None:
    layout(project, StopSignal="SIGKILL")
    project.write(spec())
    devenv("up", "-d")
    before = devenv.ps()["real-app-1"]["ID"]
    devenv("up", "-d")
    assert devenv.ps()["real-app-1"]["ID"] == before
    shutil.rmtree(project / "images")
    layout(project, StopSignal="SIGKILL", Env=["PATH=/bin", "GREETING=new"])
    assert "image" in devenv("plan").stdout
    devenv("up", "-d")
    assert devenv.ps()["real-app-1"]["ID"] != before
    assert devenv.inside("app", "echo $GREETING") == "new"


def test_containers_of_one_image_share_nothing_that_they_write(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    layout(project, Volumes={}, User="", StopSignal="SIGKILL")
    project.write(spec("deploy: {replicas: 2}"))
    devenv("up", "-d")
    devenv.inside("app", "echo mine >/bin/mine; rm /bin/ls; echo x >/srv/index.html")
    second = devenv.inside("app", "ls /bin/mine 2>/dev/null; ls /bin/ls; cat /srv/index.html", "--index", "2")
    assert second.split("\n") == ["/bin/ls", "it works"]


@machine.needs_binary("umoci")
@machine.needs_binary("skopeo")
def test_an_image_of_other_tools(devenv: runner.Devenv, project: projects.Project) -> None:
    """Made by umoci, copied by skopeo: as a layout and as an archive of Docker's kind."""
    image, tag = project / "made", "one"

    def run(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True, cwd=project.path)

    run("umoci", "init", "--layout", str(image))
    run("umoci", "new", "--image", f"{image}:{tag}")
    run("umoci", "unpack", "--image", f"{image}:{tag}", "bundle")
    root = project / "bundle" / "rootfs"
    for name in ("bin", "etc", "tmp"):
        (root / name).mkdir()
    shutil.copy2(ocilayout.BUSYBOX, root / "bin" / "busybox")
    for name in ("sh", "cat", "sleep", "echo", "id", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n")
    run("umoci", "repack", "--image", f"{image}:{tag}", "bundle")
    settings = ("--config.entrypoint", "sh", "--config.entrypoint", "-c", "--config.cmd", "echo $WORD; exec sleep 1000")
    settings += ("--config.env", "WORD=umoci", "--config.env", "PATH=/bin", "--config.user", "app")
    run("umoci", "config", "--image", f"{image}:{tag}", *settings, "--config.stopsignal", "SIGKILL")
    run("skopeo", "copy", f"oci:{image}:{tag}", "oci:copied:two")
    run("skopeo", "copy", f"oci:{image}:{tag}", "docker-archive:saved.tar:app:three")
    run("skopeo", "copy", f"oci:{image}:{tag}", "oci-archive:packed.tar:four")
    references = ("oci:made:one", "oci:copied:two", "docker-archive:saved.tar", "oci-archive:packed.tar:four")
    services = {f"s{number}": {"image": reference} for number, reference in enumerate(references)}
    project.write(json.dumps({"name": "real", "services": services}))
    devenv("up", "-d")
    for name in services:
        eventually(lambda name=name: devenv("logs", "--no-log-prefix", name).stdout == "umoci\n")
        assert devenv.inside(name, "id -un; ls /").split() == ["app", *"bin dev etc proc sys tmp".split()]


def test_an_image_that_is_not_there(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(spec())
    result = anyone("up", "-d", code=4)
    assert "images" in result.stderr
    assert "Traceback" not in result.stderr
    assert anyone.ps() == {}
    project.write(spec().replace("oci:images", "localhost:1/shop:16"))
    assert "localhost:1" in anyone("up", "-d", code=4).stderr
    assert anyone.ps() == {}


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_more_than_a_hundred_layers(anyone: runner.Devenv, project: projects.Project) -> None:
    layout(project)
    writer = ocilayout.Writer(project / "images")
    busybox = {
        "bin": ocilayout.folder(),
        "bin/busybox": ocilayout.file(pathlib.Path(ocilayout.BUSYBOX).read_bytes(), mode=0o755),
    }
    layers = [busybox, *({f"layer-{number}": str(number)} for number in range(130))]
    writer.index([writer.image(layers, {"Entrypoint": ["/bin/busybox"]})])
    for path in (project / "images").rglob("*"):
        project._own(path)
    project.write(spec())
    assert anyone("run", "--rm", "app", "ls", "/").stdout.count("layer-") == 130
    anyone("down")
