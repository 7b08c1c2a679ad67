from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.cli import gotemplate

VALUE: dict[str, Any] = {
    "ID": "abc",
    "Config": {"Env": ["A=b", "C=d"], "Labels": {"a.b": "c"}, "Tty": False, "None": None},
    "Names": ["x", "y"],
}


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.ID}}", "abc"),
        ("<{{ .ID }}>", "<abc>"),
        ("{{.Config.Tty}}", "false"),
        ("{{.Config.None}}", "<no value>"),
        ("{{.Config.Env}}", "[A=b C=d]"),
        ("{{.Config.Labels}}", "map[a.b:c]"),
        ("{{json .Config.Env}}", '["A=b","C=d"]'),
        ("{{.Config.Env | json}}", '["A=b","C=d"]'),
        ('{{index .Config.Labels "a.b"}}', "c"),
        ('{{index .Config.Labels "nothing"}}', ""),
        ("{{index .Names 1}}", "y"),
        ('{{join .Names ", "}}', "x, y"),
        ("{{.ID | upper}}", "ABC"),
        ("{{len .Names}}", "2"),
        ("{{upper (index .Names 0)}}", "X"),
        ('{{"a"}}{{`b`}}', "ab"),
        ("plain", "plain"),
    ],
)
def test_what_scripts_use(template: str, shown: str) -> None:
    assert gotemplate.compile_template(template)(VALUE) == shown


@pytest.mark.parametrize(
    "template",
    [
        "{{if .ID}}x{{end}}",
        "{{range .Names}}x{{end}}",
        "{{.ID",
        "{{}}",
        "{{nothing .ID}}",
        "{{.Nothing}}",
        "{{.ID.Deeper}}",
        '{{join .ID.X ","}}',
        "{{index .Names 9}}",
        "{{(.ID}}",
        "{{.ID |}}",
        "{{.ID .ID}}",
    ],
)
def test_anything_else_is_an_error(template: str) -> None:
    with pytest.raises(errors.UsageError):
        gotemplate.compile_template(template)(VALUE)


def test_a_table_has_headings() -> None:
    rows = [{"CreatedSince": "now", "ID": "a"}, {"CreatedSince": "long ago", "ID": "b"}]
    text = gotemplate.render_rows("table {{.ID}}\\t{{.CreatedSince}}", rows)
    assert text == "ID   CREATED SINCE\na    now\nb    long ago\n"
