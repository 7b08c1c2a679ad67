"""A Dockerfile's text to stages of typed instructions, read as BuildKit reads it.

    lines       directives, comments, continuations; where an instruction stands
    statement   keyword, flags, arguments, documents
    readers     what each instruction makes of them

Whatever is wrong, and whatever the bytes, comes out as a ``BuildError`` with its place.
"""

from __future__ import annotations

from devenv import errors
from devenv.build.dockerfile import checks, instructions, lines, readers, rules, statement, words
from devenv.build.dockerfile.malformed import Malformed


def parse(text: str | bytes, *, file: str) -> instructions.Dockerfile:
    source = lines.Source(text, file=file)
    arguments: list[instructions.Arg] = []
    stages: list[tuple[instructions.From, list[instructions.Instruction]]] = []
    warnings: list[instructions.Warning] = []
    empty = True
    while (line := source.next()) is not None:
        empty = False
        read = _instruction(source, line)
        if line.gap:
            place = source.place(line.gap, line.gap)
            warnings.append(instructions.Warning("NoEmptyContinuation", "Empty continuation line", place))
        if isinstance(read, instructions.From):
            stages.append((read, []))
        elif stages:
            stages[-1][1].append(read)
        elif isinstance(read, instructions.Arg):
            arguments.append(read)
        else:
            problem = Malformed(f"{read.keyword.upper()} stands before the first FROM", hint="only ARG may")
            raise source.error(problem, line.first, line.last)
    if not stages:
        what = (
            "the Dockerfile has no instructions"
            if empty
            else "the Dockerfile has no FROM, so there is nothing to build"
        )
        raise errors.BuildError(what, file=file, line=1, column=1, hint="begin with `FROM image`")
    read_all = instructions.Dockerfile(
        file=file,
        directives=source.directives,
        arguments=tuple(arguments),
        stages=tuple(instructions.Stage(number, start, tuple(found)) for number, (start, found) in enumerate(stages)),
    )
    hears = _heard(source)
    found = (each for each in (*warnings, *checks.textual(read_all)) if hears.hears(each.rule))
    return read_all._replace(warnings=tuple(sorted(found, key=lambda each: each.place.line)))


def _heard(source: lines.Source) -> rules.Wanted:
    try:
        return rules.wanted(rules.first_word(source.directives.get("check", "")))
    except Malformed as problem:
        # Directives are lines of their own, above everything.
        raise source.error(problem, 1, len(source.directives) + 1) from None


def parse_instruction(text: str, *, file: str) -> instructions.Instruction:
    """A trigger that an image carries from its ONBUILD."""
    source = lines.Source(text, file=file)
    line = source.next()
    if line is None:
        raise errors.BuildError("the trigger is empty", file=file, line=1, column=1)
    read = _instruction(source, line)
    if isinstance(read, instructions.From | instructions.Maintainer | instructions.Onbuild):
        raise source.error(Malformed(f"{read.keyword.upper()} can't be a trigger"), line.first, line.last)
    following = source.next()
    if following is not None:
        raise source.error(Malformed("a trigger is one instruction"), following.first, following.last)
    return read


def _instruction(source: lines.Source, line: lines.Line) -> instructions.Instruction:
    try:
        found = statement.split(
            line.text, source.place(line.first, line.last), escape=source.escape, comments=line.comments
        )
        if "\0" in line.text:
            raise Malformed("there is a NUL byte in it", word="\0")
        for delimiter in found.delimiters():
            content = source.document(delimiter.name, tabs=delimiter.tabs)
            if content is None:
                hint = f"a line of its own has to be `{delimiter.name}`"
                raise Malformed("the heredoc has no end", word="<<", hint=hint)
            found.documents.append(statement.Document(delimiter, content))
            found.place = found.place._replace(last=source.number)
        return readers.read(found)
    except (Malformed, words.WordError) as problem:
        raise source.error(problem, line.first, line.last) from None
