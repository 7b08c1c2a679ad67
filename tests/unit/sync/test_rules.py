"""Which change means what for a service: rules from a canonical `develop.watch`."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devenv.sync import ignore, rules


def rule(**given: Any) -> rules.Rule:
    return rules.make("web", {"path": "/p/src", "action": "sync", "target": "/app", **given})


@pytest.mark.parametrize(
    ("given", "path", "relative"),
    [
        ({}, "/p/src/a.py", "a.py"),
        ({}, "/p/src", ""),
        ({}, "/p/srcs/a.py", None),
        ({}, "/p/a.py", None),
        ({"ignore": ["node_modules/"]}, "/p/src/node_modules/x", None),
        ({"ignore": ["*.log"]}, "/p/src/sub/a.log", "sub/a.log"),
        ({"include": ["**/*.py"]}, "/p/src/a/b.py", "a/b.py"),
        ({"include": ["**/*.py"]}, "/p/src/a/b.js", None),
        ({"include": ["**/*.py"], "ignore": ["a"]}, "/p/src/a/b.py", None),
        ({}, "/p/src/.git/config", None),
    ],
)
def test_what_a_rule_covers(given: dict[str, Any], path: str, relative: str | None) -> None:
    assert rule(**given).covers(path) == relative


def test_a_dockerignore_is_about_its_own_folder() -> None:
    scope = rules.Scope("/p", ignore.Patterns(["src/generated"]))
    made = rules.make("web", {"path": "/p/src", "action": "sync", "target": "/app"}, dockerignore=scope)
    assert made.covers("/p/src/generated/x") is None
    assert made.covers("/p/src/x") == "x"
    assert made.prunes("/p/src/generated")


def test_folders_on_the_way_to_the_rule_and_in_it_are_looked_into() -> None:
    made = rule(ignore=["node_modules"], include=["**/*.py"])
    assert [
        folder for folder in ("/", "/p", "/p/src", "/p/src/a", "/p/src/node_modules", "/q") if made.prunes(folder)
    ] == [
        "/p/src/node_modules",
        "/q",
    ]


def test_a_path_through_a_link_is_the_real_one(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    made = rules.make("web", {"path": "link", "action": "restart"}, directory=str(tmp_path))
    assert made.path == str(tmp_path / "real")


@pytest.mark.parametrize(
    ("target", "kept"), [("/app/", "/app/"), ("/app//x/..", "/app"), ("app", "/app"), ("/", "/"), ("", "")]
)
def test_targets_are_cleaned_and_a_slash_at_the_end_stays(target: str, kept: str) -> None:
    assert rule(target=target).target == kept


@pytest.mark.parametrize(("action", "asked", "kept"), [("sync", True, True), ("restart", True, False)])
def test_only_what_syncs_syncs_at_the_beginning(action: str, *, asked: bool, kept: bool) -> None:
    assert rule(action=action, initial_sync=asked).initial_sync is kept
