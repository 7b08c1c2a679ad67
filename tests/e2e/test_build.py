"""Images of services and of folders, built as their users do it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import signal
import tarfile
from collections.abc import Callable

import pytest

from tests import ocilayout
from tests.support import machine, projects, runner, terminal
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

DOCKERFILE = """\
FROM base AS build
WORKDIR /src
COPY src .
RUN cat a b >out && echo made the thing

FROM base
COPY --from=build /src/out /out
CMD ["cat", "/out"]
"""
SPEC = """
    name: shop
    services:
      web:
        build: {context: ., additional_contexts: {base: "oci-layout://BASE"}}
        command: [sh, -c, "cat /out; exec sleep 1000"]
        stop_signal: SIGKILL
      plain:
        image: "oci:BASE"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
"""


@pytest.fixture
def base(project: projects.Project) -> pathlib.Path:
    """An image to build upon."""
    path = project.path.parent / "busybox"
    ocilayout.busybox_layout(path)
    return path


def write(project: projects.Project, base: pathlib.Path, spec: str, **files: str) -> None:
    named = {name.replace("_", "."): text for name, text in files.items()}
    project.write({"devenv.yaml": spec.replace("BASE", str(base)), **named})


@pytest.fixture
def shop(project: projects.Project, base: pathlib.Path) -> projects.Project:
    write(project, base, SPEC)
    project.write({"Dockerfile": DOCKERFILE, "src/a": "one\n", "src/b": "two\n"})
    return project


def state(stderr: str, step: str) -> str:
    """How a step ended: CACHED or DONE."""
    [number] = re.findall(rf"^#(\d+) \[.*\] {re.escape(step)}$", stderr, re.MULTILINE)
    ends = re.findall(rf"^#{number} (CACHED|DONE|ERROR|CANCELED)", stderr, re.MULTILINE)
    return str(ends[0])


def containers(devenv: runner.Devenv) -> dict[str, str]:
    return {str(item["Service"]): str(item["ID"]) for item in devenv.ps().values()}


def test_up_builds_what_is_missing_and_build_renews_what_changed(anyone: runner.Devenv, shop: projects.Project) -> None:
    first = anyone("up", "-d").stderr
    assert "made the thing" in first
    assert "Image shop-web  Built" in first
    eventually(lambda: "one\ntwo" in anyone("logs", "--no-log-prefix", "web").stdout)
    before = containers(anyone)
    assert {item["Image"] for item in anyone.ps().values()} >= {"shop-web"}

    # Nothing asks for a build, so there is none, whatever has changed.
    shop.write({"src/b": "three\n"})
    assert "#1" not in anyone("up", "-d").stderr
    assert containers(anyone) == before

    again = anyone("up", "-d", "--build").stderr
    assert state(again, "WORKDIR /src") == "CACHED"
    assert state(again, "RUN cat a b >out && echo made the thing") == "DONE"
    after = containers(anyone)
    assert after["web"] != before["web"]
    assert after["plain"] == before["plain"]
    eventually(lambda: "one\nthree" in anyone("logs", "--no-log-prefix", "web").stdout)

    # All from the cache: the same image, and so the same container.
    assert "4 of 4 steps were cached" in anyone("up", "-d", "--build").stderr
    assert containers(anyone) == after


def test_what_makes_no_difference_is_cached(devenv: runner.Devenv, shop: projects.Project) -> None:
    devenv("build")
    os.utime(shop / "src/a", (1, 1))
    shop.write({"unused": "x", "src/skipped": "x", ".dockerignore": "src/skipped\n.dockerignore\n"})
    again = devenv("build", "web")
    assert "4 of 4 steps were cached" in again.stderr
    assert again.stdout == ""
    built = devenv("build", "-q").stdout
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", built)
    assert devenv("image", "inspect", "shop-web", "--format", "{{.Id}}").stdout == built
    assert state(devenv("build", "--no-cache").stderr, "COPY src .") == "DONE"


def test_a_failing_step(anyone: runner.Devenv, project: projects.Project, base: pathlib.Path) -> None:
    write(
        project,
        base,
        """
        services:
          web: {build: {context: ., additional_contexts: {base: "oci-layout://BASE"}}}
        """,
        Dockerfile="FROM base\nRUN echo fine\nRUN echo about to fail; exit 7\n",
    )
    for command in (["build"], ["up", "-d"], ["run", "web"]):
        failed = anyone(*command, code=5).stderr
        assert re.search(r"^#\d+ \d\.\d{3} about to fail$", failed, re.MULTILINE)
        assert "exit code: 7" in failed
        assert re.search(r"--> Dockerfile:3:1$", failed, re.MULTILINE)
        assert " 3 | RUN echo about to fail; exit 7" in failed
        assert "--debug" in failed
    assert anyone.ps() == {}
    told = [json.loads(line) for line in anyone("--progress", "json", "build", code=5).stderr.splitlines()]
    assert [each["state"] for each in told if each.get("state") in {"cached", "failed"}] == ["cached", "failed"]
    assert (told[-1]["error"], told[-1]["line"]) == (True, 3)
    assert anyone("build", "--quiet", code=5).stderr.startswith("error: ")


def test_a_secret_leaves_no_trace(devenv: runner.Devenv, project: projects.Project, base: pathlib.Path) -> None:
    write(
        project,
        base,
        """
        name: shop
        services:
          web:
            build:
              context: .
              additional_contexts: {base: "oci-layout://BASE"}
              secrets: [token, {source: file, target: key}, asked]
        secrets:
          asked: {x-devenv: {command: "printf hidden; printf -- -in-a-command"}}
          token: {environment: TOKEN}
          file: {file: ./secret}
        """,
        Dockerfile=(
            "FROM base\n"
            "RUN --mount=type=secret,id=token --mount=type=secret,id=key wc -c /run/secrets/token /run/secrets/key\n"
            "RUN --mount=type=secret,id=asked wc -c /run/secrets/asked\n"
        ),
        secret="hidden-in-a-file",
    )
    told = devenv("build", env={"TOKEN": "hidden-in-the-environment"}).stderr
    assert "25 /run/secrets/token" in told
    assert "16 /run/secrets/key" in told
    assert "19 /run/secrets/asked" in told
    kept = [path for path in pathlib.Path(devenv.folder).rglob("*") if path.is_file() and path.name != "secret"]
    assert len(kept) > 5
    assert not [path for path in kept if b"hidden-in" in path.read_bytes()]


def test_services_share_a_step_and_build_upon_each_other(
    devenv: runner.Devenv, project: projects.Project, base: pathlib.Path
) -> None:
    common = "FROM base\nRUN echo shared; cat /proc/sys/kernel/random/uuid >/id\n"
    write(
        project,
        base,
        """
        name: shop
        services:
          one: {build: {context: ., dockerfile: one.D, additional_contexts: {base: "oci-layout://BASE"}}}
          two: {build: {context: ., dockerfile: two.D, additional_contexts: {base: "oci-layout://BASE"}}}
          above:
            build:
              context: .
              additional_contexts: {below: "service:one"}
              dockerfile_inline: |
                FROM below
                RUN cat /id >/above
          named:
            build: {context: ., dockerfile_inline: "FROM shop-two\\nRUN cat /id >/named\\n"}
            command: [sh, -c, "cat /id /named"]
        """,
        one_D=common + "RUN echo 1 >/number\n",
        two_D=common + "RUN echo 2 >/number\n",
    )
    told = devenv("build", "named", "above").stderr
    assert len(re.findall(r"^#\d+ \d.\d+ shared$", told, re.MULTILINE)) <= 1
    assert [name for name in ("one", "above") if f"Image shop-{name}  Built" not in told] == []
    told = devenv("build").stderr
    ids = devenv("run", "--rm", "named").stdout.split()
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert len(re.findall("Built", told)) == 4
    assert state(devenv("build", "--with-dependencies", "named").stderr, "RUN cat /id >/named") == "CACHED"
    devenv("down")


def test_without_a_build(devenv: runner.Devenv, shop: projects.Project) -> None:
    missing = devenv("up", "-d", "--no-build", code=5).stderr
    assert "the image `shop-web` of service `web` is not built" in missing
    assert "hint: devenv build web" in missing
    assert re.search(r"container\.create +service:web:1", devenv("plan", "web").stdout, re.MULTILINE)
    devenv("create", "web")
    assert "no such service" in devenv("build", "nobody", code=2).stderr
    assert "no service has a `build`" in devenv("build", "plain").stderr


def test_what_is_printed_without_a_build(devenv: runner.Devenv, shop: projects.Project) -> None:
    bake = json.loads(devenv("build", "--print").stdout)
    assert bake["group"] == {"default": {"targets": ["web"]}}
    assert bake["target"]["web"]["context"] == str(shop.path)
    assert bake["target"]["web"]["tags"] == ["shop-web:latest"]
    assert "no warnings found" in devenv("build", "--check").stdout
    assert devenv("image", "build", "--call", "targets").stdout.split() == [
        "TARGET",
        "DESCRIPTION",
        "build",
        "1",
        "(default)",
    ]
    assert devenv("image", "ls", "-q").stdout == ""


def test_from_standard_input(devenv: runner.Devenv, shop: projects.Project, base: pathlib.Path) -> None:
    named = ("--build-context", f"base=oci-layout://{base}", "-q")
    plain = "FROM base\nCOPY src/a /a\n"
    first = devenv("image", "build", "-f", "-", ".", *named, input=plain).stdout
    with tarfile.open(shop / "context.tgz", "w:gz") as archive:
        archive.add(shop / "src", "src")
        described = tarfile.TarInfo("D")
        described.size = len(plain)
        archive.addfile(described, io.BytesIO(plain.encode()))
    with open(shop / "context.tgz", "rb") as packed:
        begun = devenv.start("image", "build", "-f", "D", "-", *named, stdin=packed, stderr=None)
        out, _ = begun.communicate(timeout=60)
    assert first.startswith("sha256:")
    assert out == first
    assert devenv("image", "build", "-", *named, input="FROM base\nRUN true\n").stdout.startswith("sha256:")


def test_ctrl_c_ends_a_build(anyone: runner.Devenv, project: projects.Project, base: pathlib.Path) -> None:
    write(
        project,
        base,
        """
        services:
          web: {build: {context: ., additional_contexts: {base: "oci-layout://BASE"}}, command: [sleep, "1000"]}
        """,
        Dockerfile="FROM base\nRUN echo begun; sleep 4711\n",
    )
    for command in ("build", "up"):
        with anyone.start(command) as started:
            assert started.stdout is not None
            while not re.fullmatch(r"#\d+ [\d.]+ begun\n", line := started.stdout.readline()):
                assert line
            started.send_signal(signal.SIGINT)
            assert "CANCELED" in started.stdout.read()
            assert started.wait(20) == 130
        assert not [path for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x004711" in _read(path)]
    project.write({"Dockerfile": "FROM base\nRUN true\n"})
    anyone("build")


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_shell_where_a_step_failed(
    anyone: runner.Devenv,
    project: projects.Project,
    base: pathlib.Path,
    terminal_for: Callable[..., terminal.Terminal],
) -> None:
    named = ("--build-context", f"base=oci-layout://{base}")
    project.write({"Dockerfile": "FROM base\nRUN echo left behind >/made; exit 3\n"})
    screen = terminal_for(anyone, "image", "build", ".", *named, "--debug")
    screen.wait_for("gone when you leave")
    screen.wait_for("^/ #")
    screen.type("cat /made; exit 0")
    assert screen.wait_for_exit() == 5
    assert re.search(r"^left behind$", screen.screen(), re.MULTILINE)
    assert "--debug" in anyone("image", "build", ".", *named, "--debug", code=5).stderr
    assert os.listdir(f"{anyone.data}/build/failed") == []


def test_files_and_archives_in_place_of_an_image(
    anyone: runner.Devenv, shop: projects.Project, base: pathlib.Path
) -> None:
    named = ("--build-context", f"base=oci-layout://{base}")
    anyone("image", "build", ".", "--target", "build", *named, "-o", "out")
    assert (shop / "out/src/out").read_text() == "one\ntwo\n"
    anyone("image", "build", ".", *named, "-o", "type=tar,dest=out.tar")
    with tarfile.open(shop / "out.tar") as archive:
        found = archive.extractfile("out")
        assert found is not None
        assert found.read() == b"one\ntwo\n"
    anyone("image", "build", ".", *named, "-t", "x:1", "--iidfile", "id", "--metadata-file", "about.json")
    built = (shop / "id").read_text()
    assert anyone("image", "inspect", "x:1", "--format", "{{.Id}}").stdout.strip() == built
    about = json.loads((shop / "about.json").read_text())
    assert about["containerimage.config.digest"] == built
    assert about["image.name"] == "docker.io/library/x:1"


def test_down_takes_images_along_when_it_is_told_to(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        {
            "devenv.yaml": """
                name: gone
                services:
                  own: {build: ., command: [/x]}
                  named: {build: ., image: "shop/named:1", command: [/x]}
            """,
            "Dockerfile": "FROM scratch\nCOPY devenv.yaml /x\n",
            "other/devenv.yaml": "services: {user: {image: 'shop/named:1', command: [/x]}}\n",
        }
    )

    def names() -> set[str]:
        return set(devenv("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split())

    devenv("build")
    assert "remove image gone-own" in devenv("--dry-run", "down", "--rmi", "all").stdout
    assert names() == {"gone-own:latest", "shop/named:1"}
    devenv("create")
    devenv("down", "--rmi", "local")
    assert names() == {"shop/named:1"}
    devenv("create", cwd=project / "other")
    kept = devenv("down", "--rmi", "all").stderr
    assert "used by the container `other-user-1`" in kept
    assert names() == {"shop/named:1"}
    devenv("down", cwd=project / "other")
    assert "Image shop/named:1  Removed" in devenv("down", "--rmi", "all").stderr
    assert names() == set()
    assert "local or all" in devenv("down", "--rmi", "some", code=2).stderr
