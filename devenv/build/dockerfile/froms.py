"""The words of FROM: the variables they may use, which are those before the first FROM, and their rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from devenv.build.dockerfile import instructions, names, rules, words
from devenv.build.dockerfile.malformed import did_you_mean

# For what only depends on a variable's being there.
_PLATFORM = {
    f"{side}{name}": value
    for side in ("BUILD", "TARGET")
    for name, value in {
        "PLATFORM": "linux/amd64",
        "OS": "linux",
        "ARCH": "amd64",
        "VARIANT": "",
        "OSVERSION": "",
    }.items()
}
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9-]+\.[A-Za-z0-9.-]+(?::[0-9]+)?|[A-Za-z0-9.-]+:[0-9]+|localhost|\[[0-9a-fA-F:]+\](?::[0-9]+)?)"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@[A-Za-z0-9_+.-]+:[0-9a-fA-F]{{32,}})?"
    r"|(?:oci|oci-archive|docker-archive|rootfs):.+|host:"
)
_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd"})


def values(dockerfile: instructions.Dockerfile, given: Mapping[str, str]) -> dict[str, str]:
    """Of the arguments before the first FROM; one whose default can't be expanded has none."""
    found = {**_PLATFORM, "TARGETSTAGE": dockerfile.stages[-1].name or "default"}
    for name in found.keys() & given.keys():
        found[name] = given[name]
    escape = dockerfile.directives.get("escape", "\\")
    for each in dockerfile.arguments:
        for name, default in each.pairs:
            try:
                value = (
                    given[name]
                    if name in given
                    else words.expand(default, found, escape=escape)
                    if default
                    else default
                )
            except words.WordError:
                continue
            if value is not None:
                found[name] = value
    return found


def check(dockerfile: instructions.Dockerfile) -> Iterator[instructions.Warning]:
    found = values(dockerfile, {})
    declared = {name for each in dockerfile.arguments for name, _ in each.pairs} | found.keys()
    escape = dockerfile.directives.get("escape", "\\")
    for stage in dockerfile.stages:
        hears = rules.above(stage.start.comments)
        for rule, message in _broken(stage, found, declared, escape):
            if hears.hears(rule):
                yield instructions.Warning(rule, message, stage.start.place)


def _broken(
    stage: instructions.Stage, found: Mapping[str, str], declared: set[str], escape: str
) -> Iterator[tuple[str, str]]:
    start = stage.start
    written = start.text.split()
    if stage.name and written[-1] != stage.name:
        yield "StageNameCasing", f"the stage's name `{written[-1]}` is not in lower case"
    if stage.name:
        keyword, as_ = written[0], written[-2]
        if (keyword.islower() or keyword.isupper()) and as_.isupper() != keyword.isupper():
            yield "FromAsCasing", f"`{as_}` is not in the case of `{keyword}`"
    try:
        image = words.process(start.image, found, escape=escape)
        platform = words.process(start.platform, found, escape=escape)
    except words.WordError:
        return  # an error, and told as one
    for name in sorted((image.undefined | platform.undefined) - declared):
        near = did_you_mean(name, declared)
        yield "UndefinedArgInFrom", f"`${name}` is not declared before the first FROM{f': {near}' if near else ''}"
    if not _is_image(image.text):
        yield "InvalidDefaultArgInFrom", f"`{start.image}` names no image where no argument is given"
    if platform.used == {"TARGETPLATFORM"} and platform.text == found["TARGETPLATFORM"] and not platform.undefined:
        yield "RedundantTargetPlatform", f"`--platform={start.platform}` is what FROM does anyway"
    if platform.text and not platform.used | platform.undefined and not _is_in(platform.text, stage.name):
        message = f"`--platform={platform.text}` makes the image the same for every platform that is asked for"
        yield "FromPlatformFlagConstDisallowed", message


def _is_image(text: str) -> bool:
    return text == names.SCRATCH or _IMAGE.fullmatch(text[:4096]) is not None


def _is_in(platform: str, name: str) -> bool:
    """A stage that is named for a system or an architecture means it."""
    first, _, rest = platform.lower().partition("/")
    system, architecture = (first, rest) if first in _SYSTEMS else ("linux", first)
    return system in name or (bool(architecture) and architecture.partition("/")[0] in name)
