"""The frontend's rules: each broken once, and kept in the ways that come near."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from devenv import errors
from devenv.build.dockerfile import checks, parser, rules


def told(text: str, **known: object) -> list[tuple[str, int]]:
    found = checks.check(parser.parse(text, file="Dockerfile"), **known)  # type: ignore[arg-type]
    return [(each.rule, each.place.line) for each in found]


@pytest.mark.parametrize(
    ("rule", "text", "line"),
    [
        ("ConsistentInstructionCasing", "FROM a\nRUN b\nrun c\n", 3),
        ("ConsistentInstructionCasing", "from a\nrun b\nRun c\n", 3),
        ("DuplicateStageName", "FROM a AS b\nFROM a AS b\n", 2),
        ("ReservedStageName", "FROM a AS scratch\n", 1),
        ("StageNameCasing", "FROM a AS Build\n", 1),
        ("FromAsCasing", "FROM a as b\n", 1),
        ("FromAsCasing", "from a AS b\n", 1),
        ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/arm64 a\n", 1),
        ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} a\n", 1),
        ("InvalidDefaultArgInFrom", "ARG V\nFROM a:$V\n", 2),
        ("InvalidDefaultArgInFrom", "ARG V=\nFROM $V\n", 2),
        ("UndefinedArgInFrom", "ARG V=1\nFROM a:1$W\n", 2),
        ("JSONArgsRecommended", "FROM a\nCMD b c\n", 2),
        ("JSONArgsRecommended", "FROM a\nENTRYPOINT b\n", 2),
        ("LegacyKeyValueFormat", "FROM a\nENV b c\n", 2),
        ("LegacyKeyValueFormat", "FROM a\nLABEL b c\n", 2),
        ("MaintainerDeprecated", "FROM a\nMAINTAINER b\n", 2),
        ("MultipleInstructionsDisallowed", 'FROM a\nCMD ["b"]\nCMD ["c"]\n', 2),
        ("MultipleInstructionsDisallowed", "FROM a\nHEALTHCHECK CMD b\nHEALTHCHECK NONE\n", 2),
        ("NoEmptyContinuation", "FROM a\nRUN b \\\n\n c\n", 3),
        ("SecretsUsedInArgOrEnv", "FROM a\nARG NPM_TOKEN\n", 2),
        ("SecretsUsedInArgOrEnv", "FROM a\nENV password=x\n", 2),
        ("WorkdirRelativePath", "FROM a\nWORKDIR b\n", 2),
        ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TCP\n", 2),
        ("ExposeInvalidFormat", "FROM a\nEXPOSE 127.0.0.1:80:80\n", 2),
        ("UndefinedVar", "FROM scratch\nCOPY $b /\n", 2),
    ],
)
def test_is_told_once(rule: str, text: str, line: int) -> None:
    assert told(text) == [(rule, line)]


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN b\n",
        "from a as b\nrun c\n",
        "FROM a AS b\nFROM b AS c\n",
        "FROM --platform=$BUILDPLATFORM a\n",
        "FROM --platform=linux/arm64 a AS build-arm64\n",
        "ARG V=1\nFROM a:$V\n",
        "FROM a:1${V:-}$TARGETARCH AS b\nARG V\n".replace("${V:-}", ""),
        'FROM a\nSHELL ["bash", "-c"]\nCMD b\n',
        'FROM a AS b\nSHELL ["bash", "-c"]\nFROM b\nENTRYPOINT c\n',
        'FROM a\nCMD ["b"]\nFROM a\nCMD ["c"]\n',
        "FROM a\nENV PUBLIC_KEY=a TOKEN_FILE=b KEYBOARD=c\n",
        "FROM a\nWORKDIR /a\nWORKDIR b\n",
        "FROM a AS b\nWORKDIR /a\nFROM b\nWORKDIR c\n",
        "FROM a\nARG D=/x\nWORKDIR $D\n",
        "FROM a\nWORKDIR $FROM_THE_IMAGE\n",
        "FROM a\nCOPY $from_the_image /\n",
        "FROM scratch\nARG b\nCOPY $b /\n",
        "FROM scratch\nENV b=c\nCOPY $b /\n",
        "FROM scratch\nRUN echo $b\n",
        "FROM a\nEXPOSE 80 81/udp 1-3\n",
        "# what follows is no description\nFROM a AS b\n",
    ],
)
def test_nothing_is_told(text: str) -> None:
    assert told(text) == []


def test_variables_come_from_the_image_and_from_what_is_given() -> None:
    text = "ARG i=a\nFROM $i\nCOPY $HOME$x /\nWORKDIR $y\n"
    environments: Mapping[str, Mapping[str, str]] = {"a": {"HOME": "/root", "y": "z"}, "b": {"x": "1", "y": "/"}}
    assert told(text, environment=environments.get) == [("UndefinedVar", 3), ("WorkdirRelativePath", 4)]
    assert told(text, environment=environments.get, arguments={"i": "b"}) == [("UndefinedVar", 3)]


def test_what_is_ignored_is_asked_of_the_context() -> None:
    text = "FROM a AS b\nCOPY /x y /z/\nADD https://x.org/x .\nCOPY --from=b x /\nADD ./x $y /\n"
    assert told(text, ignored="x".__eq__) == [("CopyIgnoredFile", 2), ("CopyIgnoredFile", 5)]


def test_near_names_are_offered() -> None:
    found = checks.check(parser.parse("ARG VERSION=1\nFROM scratch\nARG NAME=1\nUSER $NAMES\n", file="f"))
    assert [each.message for each in found] == ["`$NAMES` is not defined: did you mean `NAME`?"]


def test_a_file_says_what_it_wants_to_hear() -> None:
    text = "# check={}\nFROM a as b\nMAINTAINER c\n"
    assert told(text.format("skip=FromAsCasing")) == [("MaintainerDeprecated", 3)]
    assert told(text.format("skip=all")) == []
    assert not parser.parse(text.format("skip=all"), file="f").warnings


def test_an_instruction_says_it_for_itself() -> None:
    text = (
        "FROM scratch\n# check=skip=UndefinedVar\nUSER $a\nUSER $b\n# check=skip=MaintainerDeprecated\nMAINTAINER c\n"
    )
    assert told(text) == [("UndefinedVar", 4)]


def test_descriptions_are_looked_at_where_that_is_asked_for() -> None:
    text = "# check=experimental=all\n# any\nARG a=1\n\n#\n# a the one\nARG a=1\n# other\nFROM x AS y\n"
    assert told(text) == [("InvalidDefinitionDescription", 3), ("InvalidDefinitionDescription", 9)]
    plain = parser.parse(text.split("\n", 1)[1], file="f")
    assert len(checks.check(plain, wanted=rules.wanted("experimental=all"))) == 2


@pytest.mark.parametrize("value", ["skip", "error=maybe", "slip=x", "skip=a;;"])
def test_directives_that_make_no_sense(value: str) -> None:
    with pytest.raises(errors.BuildError) as caught:
        parser.parse(f"# syntax=x\n# check={value}\nFROM a\n", file="f")
    assert caught.value.line == 2


def test_warnings_are_an_error_where_the_file_wants_it() -> None:
    strict = parser.parse("# check=error=true\nFROM a\nCMD b\nMAINTAINER c\n", file="f")
    with pytest.raises(errors.BuildError, match="JSONArgsRecommended, MaintainerDeprecated") as caught:
        rules.refuse(strict, strict.warnings)
    assert caught.value.line == 3
    rules.refuse(strict, [])
    rules.refuse(parser.parse("FROM a\nCMD b\n", file="f"), strict.warnings)


def test_every_rule_can_be_told_of() -> None:
    assert len(rules.RULES) == 21


@pytest.mark.parametrize(
    ("image", "valid"),
    [
        ("scratch", True),
        ("debian:12", True),
        ("a/b/c_d__e-f.g:V1.2_x", True),
        ("localhost:5000/a", True),
        ("Registry.Example.org/a@sha256:" + "0" * 64, True),
        ("[::1]:5000/a", True),
        ("oci:./folder", True),
        ("A", False),
        ("a:", False),
        ("a//b", False),
        ("a:b:c", False),
        ("-a", False),
        ("a@sha256:0", False),
    ],
)
def test_what_can_be_an_image(image: str, valid: bool) -> None:
    assert (told(f"FROM {image}\n") == []) is valid
