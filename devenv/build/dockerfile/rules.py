"""The frontend's rules by name, and which of them a file or a command line wants to hear of.

# check=skip=JSONArgsRecommended,StageNameCasing;error=true      for the whole file
# check=skip=UndefinedVar                                        directly above an instruction, for that alone
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.build.dockerfile import instructions, values
from devenv.build.dockerfile.malformed import Malformed

RULES = {
    "ConsistentInstructionCasing": "all instructions are written in the same case",
    "CopyIgnoredFile": "nothing is copied that .dockerignore leaves out",
    "DuplicateStageName": "no two stages have the same name",
    "ExposeInvalidFormat": "EXPOSE names no address and no port of the host",
    "ExposeProtoCasing": "a protocol in EXPOSE is in lower case",
    "FromAsCasing": "AS is written in the case of its FROM",
    "FromPlatformFlagConstDisallowed": "FROM --platform has a variable",
    "InvalidDefaultArgInFrom": "FROM names an image even where no argument is given",
    "InvalidDefinitionDescription": "the comment above an ARG or a stage begins with its name",
    "JSONArgsRecommended": "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program",
    "LegacyKeyValueFormat": "ENV and LABEL are written NAME=VALUE",
    "MaintainerDeprecated": "a label names the maintainer",
    "MultipleInstructionsDisallowed": "a stage has one CMD, one ENTRYPOINT and one HEALTHCHECK",
    "NoEmptyContinuation": "no line that is continued is empty",
    "RedundantTargetPlatform": "FROM --platform=$TARGETPLATFORM is what FROM does anyway",
    "ReservedStageName": "no stage is named `scratch` or `context`",
    "SecretsUsedInArgOrEnv": "no secret comes by ARG or ENV, which everybody can read in the image",
    "StageNameCasing": "a stage's name is in lower case",
    "UndefinedArgInFrom": "FROM uses arguments that are declared before it",
    "UndefinedVar": "a variable is defined before it is used",
    "WorkdirRelativePath": "the first WORKDIR is an absolute path",
}
EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})
_ALL = frozenset(RULES)


class Wanted(NamedTuple):
    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False  # a warning is enough to fail

    def hears(self, rule: str) -> bool:
        return rule in self.experimental if rule in EXPERIMENTAL else rule not in self.skip

    def and_(self, other: Wanted) -> Wanted:
        return Wanted(self.skip | other.skip, self.experimental | other.experimental, self.error or other.error)


def wanted(text: str) -> Wanted:
    """``skip=A,B;error=true;experimental=all``. Raises ``Malformed``."""
    found = Wanted()
    for part in text.strip().split(";", 2) if text.strip() else ():
        name, equals, value = part.partition("=")
        listed = _ALL if value.strip() == "all" else frozenset(each.strip() for each in value.split(","))
        match name.strip() if equals else "":
            case "skip":
                found = found._replace(skip=listed)
            case "experimental":
                found = found._replace(experimental=listed)
            case "error":
                found = found._replace(error=values.boolean(value.strip(), "error"))
            case _:
                hint = "it is skip=RULE,… and error=true, with `;` between and no spaces"
                raise Malformed(f"`{part.strip()}` is nothing that can be said of checks", word=part or text, hint=hint)
    return found


def of(dockerfile: instructions.Dockerfile) -> Wanted:
    """What the file itself says; it was found right when it was read."""
    return wanted(first_word(dockerfile.directives.get("check", "")))


def above(comments: Sequence[str]) -> Wanted:
    """What is said above one instruction; nonsense is a comment."""
    for comment in comments:
        name, equals, value = comment.partition("=")
        if equals and name.strip().lower() == "check":
            try:
                return wanted(first_word(value.strip()))._replace(error=False)
            except Malformed:
                return Wanted()
    return Wanted()


def first_word(text: str) -> str:
    return text.split(" ", 1)[0]


def refuse(dockerfile: instructions.Dockerfile, warnings: Iterable[instructions.Warning]) -> None:
    """Raises ``BuildError`` if there are warnings and the file wants none."""
    found = sorted(warnings, key=lambda each: each.place.line)
    if not found or not of(dockerfile).error:
        return
    rules = ", ".join(dict.fromkeys(each.rule for each in found))
    place = found[0].place
    raise errors.BuildError(
        f"the Dockerfile breaks rules and wants that to be an error: {rules}",
        file=place.file,
        line=place.line,
        column=place.column,
        excerpt=place.excerpt,
        hint=found[0].message,
    )
