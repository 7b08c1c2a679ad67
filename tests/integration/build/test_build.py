"""From a Dockerfile to an image that runs: layers, config, history, and what the next build finds of it."""

from __future__ import annotations

import pathlib

import pytest

from devenv import errors
from devenv.build import execution, progress
from devenv.image import snapshot
from tests.support import building, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

SIMPLE = """\
FROM busybox
ENV GREETING=hello
WORKDIR /app/sub
COPY src/ ./src/
RUN echo "$GREETING $(cat src/name)" > out; echo said; echo told >&2
CMD ["cat", "/app/sub/out"]
"""


def test_an_image_is_built_from_files_and_commands(builder: building.Builder) -> None:
    builder.write({"src/name": "world\n", "other": "not asked for"})

    built = builder.build(SIMPLE)

    assert built.read("/app/sub/out") == "hello world\n"
    assert built.read("/app/sub/src/name") == "world\n"
    assert built.look("/app/sub/other") is None
    assert built.config["WorkingDir"] == "/app/sub"
    assert built.config["Cmd"] == ["cat", "/app/sub/out"]
    assert "GREETING=hello" in built.config["Env"]
    assert built.result.steps == 3
    assert {(each.text, each.stderr) for each in builder.steps if each.state is progress.State.OUTPUT} == {
        ("said\n", False),
        ("told\n", True),
    }


def test_the_history_is_in_buildkits_words(builder: building.Builder) -> None:
    builder.write({"src/name": "x"})

    built = builder.build(SIMPLE.replace("RUN", "ARG A=1\nRUN"))

    assert built.history[-6:] == [
        "ENV GREETING=hello",
        "WORKDIR /app/sub",
        "COPY src/ ./src/ # buildkit",
        "ARG A=1",
        'RUN |1 A=1 /bin/sh -c echo "$GREETING $(cat src/name)" > out; echo said; echo told >&2 # buildkit',
        'CMD ["cat" "/app/sub/out"]',
    ]
    layered = [each for each in built.document["history"] if not each.get("empty_layer")]
    assert len(layered) == len(built.diff_ids) == len(built.manifest.layers)


def test_nothing_changed_is_the_same_image_without_a_step_done(builder: building.Builder) -> None:
    builder.write({"src/name": "world"})
    first = builder.build(SIMPLE)

    again = builder.build(SIMPLE)

    assert again.target == first.target
    assert (again.result.steps, again.result.cached) == (3, 3)
    assert builder.said(progress.State.STARTED) == []


def test_a_touched_file_changes_nothing(builder: building.Builder) -> None:
    builder.write({"src/name": "world"})
    first = builder.build(SIMPLE)

    (builder.context / "src/name").unlink()
    builder.write({"src/name": "world"})

    assert builder.build(SIMPLE).target == first.target


def test_a_changed_file_is_copied_again_and_what_follows_is_done_again(builder: building.Builder) -> None:
    builder.write({"src/name": "world"})
    builder.build(SIMPLE)

    builder.write({"src/name": "moon"})
    built = builder.build(SIMPLE)

    assert built.read("/app/sub/out") == "hello moon\n"
    assert builder.said(progress.State.CACHED) == ["WORKDIR /app/sub"]


def test_a_stage_built_again_to_the_same_content_changes_nothing_above(builder: building.Builder) -> None:
    dockerfile = """\
FROM busybox AS one
COPY noise .
RUN echo always the same > /out
FROM busybox
COPY --from=one /out /out
RUN cat /out > /copy
"""
    builder.write({"noise": "1"})
    first = builder.build(dockerfile)

    builder.write({"noise": "2"})
    again = builder.build(dockerfile)

    assert again.target == first.target
    assert builder.said(progress.State.CACHED) == ["COPY --from=one /out /out", "RUN cat /out > /copy"]


def test_a_stage_that_nothing_needs_is_not_built(builder: building.Builder) -> None:
    builder.build("FROM busybox AS unused\nRUN exit 1\nFROM busybox\nRUN true\n")

    assert builder.said(progress.State.DONE) == ["RUN true"]


def test_a_target_is_a_stage_by_its_name(builder: building.Builder) -> None:
    built = builder.build("FROM busybox AS one\nRUN echo 1 > /n\nFROM one AS two\nRUN exit 1\n", target="one")

    assert built.read("/n") == "1\n"


def test_a_step_that_fails_is_told_with_its_line_and_its_last_words(builder: building.Builder) -> None:
    dockerfile = "FROM busybox\nRUN echo first; \\\n    echo last >&2; exit 3\nRUN echo never\n"

    with pytest.raises(execution.StepFailed) as caught:
        builder.build(dockerfile)

    error = caught.value
    assert (error.code_of_command, error.line) == (3, 2)
    assert sorted(error.lines) == ["first", "last"]
    assert error.excerpt == "RUN echo first; \\"
    assert error.file == str(builder.context / "Dockerfile")
    assert builder.said(progress.State.FAILED)
    assert builder.leftovers == []


def test_a_file_that_is_not_there_is_told_with_its_line(builder: building.Builder) -> None:
    with pytest.raises(errors.BuildError) as caught:
        builder.build("FROM busybox\n\nCOPY nothing /\n")

    assert caught.value.line == 3
    assert "nothing" in caught.value.message


def test_what_is_mounted_leaves_no_trace_in_the_layer(builder: building.Builder) -> None:
    dockerfile = """\
FROM scratch
COPY --from=busybox /bin /bin
RUN touch /made; cat /etc/hosts /etc/resolv.conf > /dev/null
"""
    built = builder.build(dockerfile, contexts={"busybox": f"oci-layout://{builder.folder}/busybox"})

    assert built.top() == {"made"}


def test_a_folder_that_only_held_a_mount_is_no_change(builder: building.Builder) -> None:
    built = builder.build("FROM busybox\nRUN --mount=type=tmpfs,target=/a/b/c touch /a/b/c/d; touch /made\n")

    assert built.top() == {"made"}


def test_the_unpacked_layer_is_what_its_blob_unpacks_to(builder: building.Builder, tmp_path: pathlib.Path) -> None:
    dockerfile = """\
FROM busybox
RUN mkdir /d /gone && echo 1 > /d/one && echo 2 > /gone/two
RUN rm -r /gone && rm /d/one && chmod 4755 /d && ln -s x /d/link && echo 3 > /d/three && ln /d/three /d/four
"""
    built = builder.build(dockerfile)

    def described(folder: pathlib.Path) -> dict[str, tuple[int, int, int, int]]:
        found = {}
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            # Whiteouts may be links of each other.
            links = status.st_nlink if path.is_file() else 0
            found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, links, status.st_rdev)
        return found

    folder = pathlib.Path(f"{builder.where.data}/layers") / snapshot.chain(built.diff_ids)[-1] / "fs"
    assert described(folder) == described(built.unpacked(tmp_path))


def test_two_requests_share_what_is_the_same(builder: building.Builder) -> None:
    dockerfile = """\
FROM busybox AS base
RUN date > /when
FROM base AS one
RUN echo 1 > /n
FROM base AS two
RUN echo 2 > /n
"""

    one, two = builder.solve(
        builder.request(dockerfile, target="one", tags=("docker.io/library/one:latest",)),
        builder.request(dockerfile, target="two", tags=("docker.io/library/two:latest",)),
    )

    assert (one.read("/n"), two.read("/n")) == ("1\n", "2\n")
    assert one.read("/when") == two.read("/when")
    assert builder.said(progress.State.STARTED).count("RUN date > /when") == 1


def test_no_cache_does_every_step_again(builder: building.Builder) -> None:
    dockerfile = "FROM busybox\nRUN date > /when\n"
    builder.build(dockerfile)

    again = builder.build(dockerfile, no_cache=True)

    assert again.result.cached == 0
    assert builder.build(dockerfile).target == again.target


def test_a_base_without_layers_of_its_own_is_refused(builder: building.Builder) -> None:
    with pytest.raises(errors.BuildError, match="has no layers to build upon"):
        builder.build("FROM host:\nRUN true\n")
