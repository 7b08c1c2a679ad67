"""The reference of commands: complete, up to date, and what man(1) reads."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from devenv import errors
from devenv.cli import app, commands, manual

REPOSITORY = pathlib.Path(__file__).parents[3]


def test_the_page_in_docs_is_what_the_commands_say() -> None:
    assert (REPOSITORY / "docs" / "commands.md").read_text() == manual.markdown(), (
        "run `devenv man --markdown >docs/commands.md`"
    )


def test_every_command_that_is_not_hidden_has_a_page() -> None:
    titles = {page.title for page in manual.pages()}
    for name, entry in commands.COMMANDS.items():
        assert (f"devenv-{name}" in titles) is not entry.hidden
        assert all((f"devenv-{name}-{inner}" in titles) is not row.hidden for inner, row in entry.group.items())


def test_every_option_is_explained() -> None:
    bare = [f"{page.title} {option.name}" for page in manual.pages() for option in page.options if not option.text]
    assert bare == []


def test_code_is_bold_and_hyphens_are_as_typed() -> None:
    page = manual.roff(manual.Page(("devenv", "x"), "does `a-b`", "devenv x", ".begins\n\nwith C:\\", (), (), ()))
    assert "devenv\\-x \\- does \\fBa\\-b\\fR\n" in page
    assert "\n\\&.begins\n" in page
    assert "with C:\\e\n" in page


def test_an_unknown_word_names_the_nearest_command() -> None:
    with pytest.raises(errors.UsageError) as caught:
        manual.page(["image", "buld"])
    assert caught.value.hint == "did you mean `build`?"


@pytest.mark.skipif(not shutil.which("man"), reason="no man(1)")
def test_man_has_nothing_to_say_against_the_pages() -> None:
    pages = "".join(map(manual.roff, manual.pages()))
    done = subprocess.run(["man", "--warnings", "-l", "-"], input=pages, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


def test_help_goes_on_taking_its_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    list(manual.pages())
    assert app.main(["-h"]) == 0
    assert "Commands:" in capsys.readouterr().out
