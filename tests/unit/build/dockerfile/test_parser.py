"""What a Dockerfile's text is read as. Whole files with their expected dumps are in ``testfiles``."""

from __future__ import annotations

import pytest

from devenv.build.dockerfile import instructions, parser


def run(text: str) -> instructions.Run:
    read = parser.parse(f"FROM x\n{text}", file="Dockerfile").stages[0].instructions[0]
    assert isinstance(read, instructions.Run)
    return read


def test_a_document_alone_is_the_script() -> None:
    read = run("RUN <<-EOF\n\techo a\n\tEOF\n")
    assert (read.script, read.program) == ("echo a\n", None)


def test_a_document_that_names_its_interpreter_is_a_program() -> None:
    read = run("RUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n")
    assert read.program is not None
    assert read.program.content.startswith("#!/usr/bin/python3\n")


def test_documents_in_a_line_are_left_to_the_shell() -> None:
    read = run("RUN cat <<A <<'B' 3<<C > /x\na\nA\nb\nB\nc\nC\n")
    assert read.script == "cat <<A <<'B' 3<<C > /x\na\nA\nb\nB\nc\nC"
    assert [(each.expand, each.descriptor) for each in read.heredocs] == [(True, 0), (False, 0), (True, 3)]


def test_a_trigger_is_read_again_from_its_expression() -> None:
    stage = parser.parse("FROM x\nONBUILD RUN <<-EOF cat\n\ta\n\tEOF\nONBUILD COPY --from=y a b\n", file="f").stages[0]
    for read in stage.instructions:
        assert isinstance(read, instructions.Onbuild)
        again = parser.parse_instruction(read.expression, file="f")
        assert type(again) is type(read.trigger)
        assert again.flags == read.trigger.flags
        assert again.text == read.trigger.text


@pytest.mark.parametrize("line", ["RUN echo $((1 << ${x:-2}))", "RUN cat <<<x", "RUN echo 1<2", "RUN echo '<<EOF'"])
def test_is_no_heredoc(line: str) -> None:
    assert run(f"{line}\n").heredocs == ()
