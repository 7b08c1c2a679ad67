"""What each of the eighteen instructions takes, from a statement to its typed form. Raises ``Malformed``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from devenv.build.dockerfile import forms, heredocs, instructions, mounts, values, words
from devenv.build.dockerfile.flags import Kind
from devenv.build.dockerfile.malformed import Malformed, did_you_mean
from devenv.build.dockerfile.statement import Statement

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
_TRANSFER = {"chown": Kind.TEXT, "chmod": Kind.TEXT, "link": Kind.BOOLEAN, "exclude": Kind.MANY}
_SHORTEST = 0.001  # of a health check's times


def read(statement: Statement) -> instructions.Instruction:
    reader = _READERS.get(statement.name)
    if reader is None:
        shown = statement.keyword[:60]
        hint = did_you_mean(statement.keyword, _READERS) or _foreign(statement.line)
        raise Malformed(f"there is no instruction `{shown}`", word=statement.keyword, hint=hint)
    return reader(statement)


def _foreign(line: str) -> str | None:
    """Where a whole line is none of ours, something before it went wrong, or the file is another thing."""
    if line.lstrip().startswith(("&&", "||", "|", "-")):
        return "the line before may lack the backslash that continues it"
    return None


def _from(statement: Statement) -> instructions.From:
    found = forms.separated(statement.rest)
    if len(found) != 1 and (len(found) != 3 or found[1].lower() != "as"):
        raise Malformed("FROM is followed by an image, and by `AS name` or nothing")
    name = found[2].lower() if len(found) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name):
        hint = "it begins with a letter; letters, digits and `-_.` follow"
        raise Malformed(f"`{found[2]}` can't be a stage's name", word=found[2], hint=hint)
    given = statement.allow(platform=Kind.TEXT)
    return instructions.From(**statement.common, image=found[0], platform=given.text("platform"), name=name)


def _command(statement: Statement) -> dict[str, Any]:
    """Of RUN, CMD and ENTRYPOINT."""
    found = forms.array(statement.rest)
    if found is not None:
        return {"words": tuple(found)}
    documents = tuple(each.heredoc for each in statement.documents)
    alone = bool(documents) and heredocs.delimiter(statement.rest) is not None
    return {"shell": statement.rest, "heredocs": documents, "document": alone}


def _run(statement: Statement) -> instructions.Run:
    given = statement.allow(mount=Kind.MANY, network=Kind.TEXT, security=Kind.TEXT, device=Kind.MANY)
    for device in given.many("device"):
        values.fields(device)
    return instructions.Run(
        **statement.common,
        **_command(statement),
        mounts=tuple(mounts.read(each) for each in given.many("mount")),
        network=_one_of("network", given.text("network"), _NETWORKS),
        security=_one_of("security", given.text("security"), _SECURITIES),
        devices=given.many("device"),
    )


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> str:
    if value and value not in known:
        raise Malformed(f"there is no --{flag} `{value}`", word=value, hint=f"it is one of {', '.join(known)}")
    return value


def _cmd(statement: Statement) -> instructions.Cmd:
    statement.allow()
    return instructions.Cmd(**statement.common, **_command(statement))


def _entrypoint(statement: Statement) -> instructions.Entrypoint:
    statement.allow()
    return instructions.Entrypoint(**statement.common, **_command(statement))


def _transfer(statement: Statement) -> dict[str, Any]:
    """Of COPY and ADD."""
    array = forms.array(statement.rest)
    found = forms.separated(statement.rest) if array is None else array
    if len(found) < 2:
        raise Malformed(f"{statement.name} needs a source and a destination")
    *sources, target = found
    if heredocs.delimiter(target) is not None:
        raise Malformed(f"the destination of {statement.name} can't be a heredoc", word=target)
    documents = {each.delimiter.name: each.content for each in statement.documents}
    files: list[str] = []
    contents: list[instructions.Heredoc] = []
    for source in sources:
        end = heredocs.delimiter(source)
        if end is None:
            files.append(source)
            continue
        content = documents.get(end.name, "")
        content = heredocs.without_tabs(content) if end.tabs else content
        contents.append(instructions.Heredoc(end.name, content, end.expand, end.descriptor))
    return {"sources": tuple(files), "heredocs": tuple(contents), "target": target}


def _copy(statement: Statement) -> instructions.Copy:
    given = statement.allow(**_TRANSFER, **{"from": Kind.TEXT}, parents=Kind.BOOLEAN)
    return instructions.Copy(
        **statement.common,
        **_transfer(statement),
        chown=given.text("chown"),
        chmod=given.text("chmod"),
        link=bool(given.boolean("link")),
        excludes=given.many("exclude"),
        source=given.text("from"),
        parents=bool(given.boolean("parents")),
    )


def _add(statement: Statement) -> instructions.Add:
    given = statement.allow(**_TRANSFER, checksum=Kind.TEXT, keep_git_dir=Kind.BOOLEAN, unpack=Kind.BOOLEAN)
    return instructions.Add(
        **statement.common,
        **_transfer(statement),
        chown=given.text("chown"),
        chmod=given.text("chmod"),
        link=bool(given.boolean("link")),
        excludes=given.many("exclude"),
        checksum=given.text("checksum"),
        keep_git_dir=bool(given.boolean("keep-git-dir")),
        unpack=given.boolean("unpack"),
    )


def _arg(statement: Statement) -> instructions.Arg:
    found = forms.quoted(statement.rest, statement.escape)
    if not found:
        raise Malformed("ARG needs at least one NAME or NAME=VALUE")
    pairs: list[tuple[str, str | None]] = []
    for word in found:
        name, equals, value = word.partition("=")
        if not name:
            raise Malformed("ARG needs a name before `=`", word=word)
        pairs.append((name, value if equals else None))
    return instructions.Arg(**statement.common, pairs=tuple(pairs))


def _env(statement: Statement) -> instructions.Env:
    statement.allow()
    pairs, legacy = forms.pairs(statement.rest, "ENV", statement.escape)
    return instructions.Env(**statement.common, pairs=pairs, legacy=legacy)


def _label(statement: Statement) -> instructions.Label:
    statement.allow()
    pairs, legacy = forms.pairs(statement.rest, "LABEL", statement.escape)
    return instructions.Label(**statement.common, pairs=pairs, legacy=legacy)


def _workdir(statement: Statement) -> instructions.Workdir:
    path = statement.one("a path")
    statement.allow()
    return instructions.Workdir(**statement.common, path=path)


def _user(statement: Statement) -> instructions.User:
    user = statement.one("a user")
    statement.allow()
    return instructions.User(**statement.common, user=user)


def _maintainer(statement: Statement) -> instructions.Maintainer:
    name = statement.one("a name")
    statement.allow()
    return instructions.Maintainer(**statement.common, name=name)


def _stop_signal(statement: Statement) -> instructions.StopSignal:
    return instructions.StopSignal(**statement.common, signal=statement.one("a signal"))


def _expose(statement: Statement) -> instructions.Expose:
    statement.one("at least one port")
    statement.allow()
    return instructions.Expose(**statement.common, ports=tuple(sorted(forms.separated(statement.rest))))


def _volume(statement: Statement) -> instructions.Volume:
    array = forms.array(statement.rest)
    found = forms.separated(statement.rest) if array is None else array
    if not found:
        raise Malformed("VOLUME needs at least one path")
    statement.allow()
    paths = tuple(each.strip(words.SPACE) for each in found)
    if not all(paths):
        raise Malformed("a path of VOLUME is empty")
    return instructions.Volume(**statement.common, paths=paths, exact=array is not None)


def _shell(statement: Statement) -> instructions.Shell:
    statement.allow()
    found = forms.array(statement.rest)
    if not found:
        example = 'SHELL ["/bin/bash", "-c"]'
        raise Malformed("SHELL needs a JSON array that isn't empty", hint=f"write it like {example}")
    return instructions.Shell(**statement.common, words=tuple(found))


def _healthcheck(statement: Statement) -> instructions.Healthcheck:
    word, *rest = re.split(f"[{words.SPACE}]+", statement.rest, maxsplit=1)
    kind = word.upper()
    if kind == "NONE":
        if rest:
            raise Malformed("HEALTHCHECK NONE stands alone", word=rest[0])
        return instructions.Healthcheck(**statement.common, test=None)
    given = statement.allow(
        interval=Kind.TEXT,
        timeout=Kind.TEXT,
        start_period=Kind.TEXT,
        start_interval=Kind.TEXT,
        retries=Kind.TEXT,
    )
    if kind != "CMD":
        what = f"HEALTHCHECK knows no `{word}`" if word else "HEALTHCHECK needs a test"
        raise Malformed(what, word=word, hint="write HEALTHCHECK CMD and a command, or HEALTHCHECK NONE")
    array = forms.array(rest[0]) if rest else []
    if array == []:
        raise Malformed("HEALTHCHECK CMD needs a command")
    test = {"words": tuple(array)} if array is not None else {"shell": rest[0]}
    common = statement.common
    retries = given.text("retries")
    return instructions.Healthcheck(
        **common,
        test=instructions.Command(place=common["place"], text=common["text"], **test),
        interval=_span(given.text("interval"), "interval"),
        timeout=_span(given.text("timeout"), "timeout"),
        start_period=_span(given.text("start-period"), "start-period"),
        start_interval=_span(given.text("start-interval"), "start-interval"),
        retries=_retries(retries) if retries else None,
    )


def _span(text: str, name: str) -> float | None:
    """None for no time at all too, as it is for BuildKit."""
    seconds = values.duration(text) if text else 0.0
    if seconds and seconds < _SHORTEST:
        raise Malformed(f"--{name} can't be less than a millisecond", word=text)
    return seconds or None


def _retries(text: str) -> int:
    if not text.removeprefix("+").isdecimal() or not text.isascii() or len(text) > 10 or int(text) >= 2**31:
        raise Malformed(f"--retries is a number, not `{text}`", word=text)
    return int(text)


def _onbuild(statement: Statement) -> instructions.Onbuild:
    statement.one("an instruction")
    statement.allow()
    inner = statement.trigger()
    if inner.name in {"ONBUILD", "FROM", "MAINTAINER"}:
        raise Malformed(f"{inner.name} can't be a trigger of ONBUILD", word=inner.keyword)
    return instructions.Onbuild(**statement.common, trigger=read(inner), expression=inner.expression)


_READERS: dict[str, Callable[[Statement], instructions.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
