"""Pages point at things that exist, and the examples in them are examples."""

from __future__ import annotations

import pathlib
import re

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted(REPOSITORY.glob("docs/*.md")),
    *sorted(REPOSITORY.glob("templates/*/README.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: pathlib.Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_the_index_lists_every_page() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text()
    assert [p.name for p in REPOSITORY.glob("docs/*.md") if p.name != "README.md" and f"({p.name})" not in index] == []


def test_the_readme_opens_with_the_two_commands() -> None:
    text = (REPOSITORY / "README.md").read_text()
    first = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert first is not None
    assert re.findall(r"^\./dev \w+", first[1], re.MULTILINE) == ["./dev up", "./dev test"]
