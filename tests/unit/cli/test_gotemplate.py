from __future__ import annotations

import contextlib
from typing import Any

import hypothesis
import hypothesis.strategies
import pytest

from devenv import errors
from devenv.cli import gotemplate

VALUE: dict[str, Any] = {
    "ID": "abc",
    "Config": {"Env": ["A=b", "C=d"], "Labels": {"a.b": "c"}, "Tty": False, "None": None},
    "Names": ["x", "y"],
    "State": {"Status": "running", "ExitCode": 0, "Health": None, "Pid": 7},
    "Mounts": [{"Source": "/a", "RW": True}, {"Source": "/b", "RW": False}],
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "443/tcp": None},
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
        ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
        ("{{range $i, $m := .Mounts}}{{if $i}},{{end}}{{$i}}={{$m.Source}}{{end}}", "0=/a,1=/b"),
        ("{{range $m := .Mounts}}{{$m.Source}}{{$.ID}}{{end}}", "/aabc/babc"),
        (
            "{{range $port, $to := .Ports}}{{$port}}{{with $to}}->{{(index . 0).HostPort}}{{end}} {{end}}",
            "443/tcp 80/tcp->8080 ",
        ),
        ("{{range .Config.None}}x{{else}}none{{end}}", "none"),
        ("{{range $i, $e := .Names}}{{if eq $e `y`}}{{break}}{{end}}{{$e}}{{end}}", "x"),
        ("{{range .Names}}{{if eq . `x`}}{{continue}}{{end}}<{{.}}>{{end}}", "<y>"),
        ("{{range .Names}}a{{if eq . `x`}}b{{break}}{{end}}{{end}}", "ab"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ('{{if eq .State.Status "running"}}up{{else}}down{{end}}', "up"),
        ('{{if eq .State.Status "a" "running"}}up{{end}}', "up"),
        ('{{if ne .State.Status "running"}}a{{else if .State.ExitCode}}b{{else}}c{{end}}', "c"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{with .State}}{{.Status}} {{$.ID}}{{end}}", "running abc"),
        ("{{with .State.Health}}x{{else with .State.Pid}}{{.}}{{end}}", "7"),
        ("{{if and .Config.Env (not .Config.Tty) (gt .State.Pid 5)}}yes{{end}}", "yes"),
        ("{{if or .Config.Tty .State.ExitCode}}x{{else}}y{{end}}", "y"),
        ('{{if and .State.Health (eq .State.Health.Status "healthy")}}x{{end}}', ""),  # the second is not looked at
        ("{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}} {{lt `a` `b`}}", "true true false true true"),
        ("{{$n := len .Names}}{{range .Names}}{{$n = 9}}{{end}}{{$n}}", "9"),
        ("{{$n := 1}}{{range .Names}}{{$n := 9}}{{end}}{{$n}}", "1"),
        ("a  {{- /* b */ -}}  c", "ac"),
        ("a \n {{- .ID -}} \n b {{.ID}} c", "aabcb abc c"),
        ('{{"}}"}}{{/* }} */}}', "}}"),
        ('{{printf "%s %d %5.1f|%-4s|%q %v%%" .ID 7 1.25 `x` `y` .Names}}', 'abc 7   1.2|x   |"y" [x y]%'),
        ("{{println .ID 1}}", "abc 1\n"),
        ("{{print .ID 1 2}}", "abc1 2"),
        ("{{.ID | printf `%s-%s` `x` | upper}}", "X-ABC"),
        ("{{slice .ID 1 2}}{{slice .ID 1}}", "bbc"),
        ("{{.Config.Labels.nothing}}|{{if .Config.Labels.nothing}}x{{end}}", "|"),
        ("{{join (split `a,b` `,`) `+`}}{{truncate .ID 2}}{{pad .ID 1 1}}", "a+bab abc "),
        ("{{true}}{{nil | json}}", "truenull"),
    ],
)
def test_what_scripts_use(template: str, shown: str) -> None:
    assert gotemplate.compile_template(template)(VALUE) == shown


@pytest.mark.parametrize(
    "template",
    [
        "{{if .ID}}x",
        "{{if .ID}}{{else}}{{else}}{{end}}",
        "{{if}}x{{end}}",
        "{{end}}",
        "{{else}}",
        "{{end .ID}}",
        "{{if .ID}}{{end x}}",
        "{{break}}",
        "{{range .ID}}{{end}}",
        "{{range $a, $b, $c := .Names}}{{end}}",
        "{{if $a, $b := .Names}}{{end}}",
        "{{$x}}",
        "{{$x = 1}}",
        '{{define "x"}}{{end}}',
        '{{template "x"}}',
        "{{eq .ID 1}}",
        "{{eq .ID}}",
        "{{lt .ID 1}}",
        "{{lt .Names .Names}}",
        '{{printf "%d" .ID}}',
        '{{printf "%d"}}',
        '{{printf "x" 1}}',
        '{{printf "%p" 1}}',
        "{{slice .ID 2 1}}",
        "{{index .Names `x`}}",
        '{{.ID"x"}}',
        "{{range .Names}}{{.Nothing}}{{end}}",
        "{{(.ID)}}{{(}}",
        '{{"\\x"}}',
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


def test_a_table_may_decide_and_knows_labels() -> None:
    rows = [{"ID": "a", "State": "running", "Labels": "x=1,y=2"}, {"ID": "b", "State": "exited", "Labels": ""}]
    shape = 'table {{.ID}}\\t{{if eq .State "running"}}up{{else}}{{.State}}{{end}}'
    assert gotemplate.render_rows(shape, rows) == "ID   STATE\na    up\nb    exited\n"
    assert gotemplate.render_rows('{{.ID}}:{{.Label "y"}}', rows) == "a:2\nb:\n"
    assert gotemplate.render_rows('{{.ID}}{{"\\t"}}{{print "\\n"}}', rows[:1]) == "a\t\n\n"
    with pytest.raises(errors.UsageError, match="separated"):
        gotemplate.render_rows("table {{.ID}}{{if eq .State `running`}}\\t{{end}}", rows)


@hypothesis.given(hypothesis.strategies.text(alphabet='{}.$|()"` -/*ifrangewthlsendID:=,0', max_size=40))
def test_nothing_else_comes_of_any_text(text: str) -> None:
    with contextlib.suppress(errors.UsageError):
        gotemplate.compile_template(text)(VALUE)
