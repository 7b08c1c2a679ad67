"""What a Dockerfile's words come to in an image: heredocs, triggers, mounts, names of stages."""

from __future__ import annotations

import contextlib

import pytest

from devenv import errors
from devenv.build import request
from devenv.image import store as image_store
from devenv.reconcile import dockerfiles, linting
from tests.support import building, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]


def test_heredocs_are_scripts_programs_input_and_files(builder: building.Builder) -> None:
    built = builder.build(
        """\
FROM busybox
ARG who=world
RUN <<-EOF
	set -e
	echo "script $who" > /script
	EOF
RUN <<EOF
#!/bin/sh -e
echo program $0 > /program
EOF
RUN cat <<one > /input && cat >> /input <<'two'
$who
one
$who
two
COPY <<plain <<"quoted" /files/
$who
plain
$who
quoted
"""
    )

    assert built.read("/script") == "script world\n"
    assert built.read("/program") == "program /dev/pipes/EOF\n"
    assert built.read("/input") == "world\n$who\n"
    assert (built.read("/files/plain"), built.read("/files/quoted")) == ("world\n", "$who\n")


def test_a_trigger_keeps_its_heredoc(builder: building.Builder) -> None:
    built = builder.build("FROM busybox AS base\nONBUILD RUN <<EOF\necho triggered > /t\nEOF\nFROM base\n")

    assert built.read("/t") == "triggered\n"
    assert "OnBuild" not in built.config


def test_a_secret_is_named_by_its_source_and_may_be_a_variable(builder: building.Builder) -> None:
    secret = request.Secret("tok", value=b"hidden")

    builder.build(
        """\
FROM busybox
RUN --mount=type=secret,source=tok test "$(cat /run/secrets/tok)" = hidden
RUN --mount=type=secret,id=tok,env=OTHER test "$OTHER" = hidden && test ! -e /run/secrets/tok
""",
        secrets=(secret,),
    )


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("type=cache,target=/a,sharing=$how", "no sharing `any`"),
        ("type=cache,target=/a,z", "no field `z`"),
        ("type=tmpfs", "needs a target"),
        ("type=tmpfs,target=/", "can't be mounted"),
        ("from=late,target=/a", "no stage `late` yet"),
    ],
)
def test_a_mount_that_can_not_be_is_told_with_its_line(builder: building.Builder, mount: str, message: str) -> None:
    with pytest.raises(errors.BuildError, match=message) as caught:
        builder.build(
            f"FROM busybox AS late0\nARG how=any\nRUN --mount={mount} true\nFROM busybox AS late\n", target="late0"
        )
    assert caught.value.line == 3


def test_the_last_of_several_stages_with_a_name_counts(builder: building.Builder) -> None:
    built = builder.build(
        "FROM busybox AS a\nRUN echo 1 > /n\nFROM busybox AS A\nRUN echo 2 > /n\n"
        "FROM scratch\nCOPY --from=a /n /named\nCOPY --from=0 /n /numbered\n"
    )

    assert (built.read("/named"), built.read("/numbered")) == ("2\n", "1\n")


def test_ports_may_be_written_as_for_publishing(builder: building.Builder) -> None:
    built = builder.build("FROM busybox\nARG P=90\nEXPOSE 127.0.0.1:8080:80 53/UDP $P-91\n")

    assert sorted(built.config["ExposedPorts"]) == ["53/udp", "80/tcp", "90/tcp", "91/tcp"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("", [("UndefinedVar", 3), ("CopyIgnoredFile", 4)]), ("skip=UndefinedVar", [("CopyIgnoredFile", 4)])],
)
def test_rules_know_images_that_are_here_and_what_is_ignored(
    builder: building.Builder, argument: str, expected: list[tuple[str, int]]
) -> None:
    builder.build("FROM busybox\nENV FROM_BASE=1\n")
    builder.write({".dockerignore": "node_modules\n"})
    asked = builder.request(
        "ARG WHICH\nFROM $WHICH\nUSER $FROM_BASE$NOT_THERE\nCOPY node_modules/x . ./\nFROM elsewhere\nUSER $UNKNOWN\n",
        arguments={"WHICH": "built", linting.OPTION: argument},
    )
    dockerfile = dockerfiles.read(asked)
    assert dockerfile is not None
    with contextlib.closing(image_store.ImageStore(builder.where)) as store:
        found = linting.check(dockerfile, asked, store)

    assert [(each.rule, each.place.line) for each in found if each.rule != "InvalidDefaultArgInFrom"] == expected


def test_a_file_that_wants_no_warnings_is_not_built_with_one(builder: building.Builder) -> None:
    with pytest.raises(errors.BuildError, match="JSONArgsRecommended") as caught:
        builder.build("# check=error=true\nFROM busybox\nCMD true\n")

    assert caught.value.line == 3
    assert builder.steps == []


def test_the_later_of_arg_and_env_wins(builder: building.Builder) -> None:
    built = builder.build(
        """\
FROM busybox
ENV A=env B=env
ARG A=arg C=arg
ENV C=env
ARG B
RUN echo "$A $B $C" > /seen
""",
    )

    assert built.read("/seen") == "arg env env\n"
    assert {"A=env", "B=env", "C=env"} <= set(built.config["Env"])
    assert built.history[-1].startswith("RUN |3 A=arg C=env B=env /bin/sh -c")


def test_a_stage_goes_on_with_the_arguments_of_the_one_below(builder: building.Builder) -> None:
    built = builder.build(
        """\
FROM busybox AS base
ARG A=1 B=2 C
ENV B=env
FROM base
RUN echo "$A $B $C" > /seen
""",
        arguments={"C": "given"},
    )

    assert built.read("/seen") == "1 env given\n"
    assert "A=1" not in built.config["Env"]


def test_a_default_that_is_not_used_may_be_wrong(builder: building.Builder) -> None:
    dockerfile = "ARG G=${x:?missing}\nFROM busybox\nARG A=${x:?missing}\nRUN echo $A > /seen\n"

    with pytest.raises(errors.BuildError, match="missing"):
        builder.build(dockerfile)

    assert builder.build(dockerfile, arguments={"G": "1", "A": "2"}).read("/seen") == "2\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RUN []", "names no program"),
        ('RUN [""]', "names no program"),
        ("RUN --device=vendor.org/gpu=0 true", "RUN --device"),
        ("COPY <<doc /\n${\ndoc", "in `doc`"),
        ("STOPSIGNAL SIGNOTHING", "no signal `SIGNOTHING`"),
        ("STOPSIGNAL $unset", "no signal"),
        ("COPY --from=$unset a /", "can't hold variables"),
        ("VOLUME $unset", "empty"),
        ("EXPOSE 80-70", "no port"),
    ],
)
def test_what_no_image_can_have_is_told_with_its_line(builder: building.Builder, line: str, message: str) -> None:
    with pytest.raises(errors.BuildError, match=message) as caught:
        builder.build(f"FROM busybox\n{line}\n")

    assert caught.value.line == 2
