"""Bad input: one error each, with its place and what to do; and the reader's own rules."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

from devenv.cli import report
from tests.unit.spec.support import load, refused, service, write

WEB = "services:\n  web:\n    image: x\n"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
MERGE_BOMB = "a0: &a0 {k0: x}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}], k{i}: x}}\n" for i in range(1, 8)
)


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        (BOMB, 6, None, "aliases expand to more than", ""),
        (MERGE_BOMB, 6, None, "aliases expand to more than", ""),
        ("a: &a {b: *a}\n", 1, 11, "`&a` of line 1 contains itself", ""),
        ("a: *b\n", 1, 4, "no anchor `&b`", ""),
        ("a: " + "[" * 3000, 1, None, "deeper than 64", ""),
        ("[" * 200_000, 1, None, "deeper than 64", ""),
        ("".join(" " * i + "a:\n" for i in range(300)), 65, None, "deeper than 64", ""),
        (WEB + "    image: y\n", 4, 5, "in line 3 and in line 4", "remove"),
        ("a: {<<: {b: 1}, <<: {c: 2}}\n", 1, None, "`<<` is there twice", ""),
        ("services:\n\tweb: {}\n", 2, 1, "a tab can't indent", "spaces"),
        (WEB + "    user: a\0b\n", 4, 12, "U+0000", "\\u0000"),
        (b"services:\n  web:\n    image: caf\xe9\n", 3, 15, "not UTF-8", "UTF-8"),
        (WEB + "    user: !!python/name:os.system x\n", 4, None, "tag `!!python/name:os.system`", "!reset"),
        (WEB + "    user: !mine x\n", 4, None, "tag `!mine`", ""),
        (WEB + "    scale: !!int x\n", 4, None, "is no int", ""),
        (WEB + "    labels: {1: x}\n", 4, 14, "a key must be text, not the number 1", "quotes"),
        (WEB + "    labels: {? [a] : x}\n", 4, None, "a key must be text", ""),
        (WEB + "    command: a: b\n", 4, 15, "a `:` where no key can be", ""),
        (WEB + "    command: [a\n", 4, 14, "not valid YAML", ""),
        ("- a\n", 1, 1, "a spec is a mapping, not a list", ""),
        ("", None, None, "the spec is empty", "services"),
        ("# nothing\n---\n", None, None, "the spec is empty", ""),
        ("x-a: '" + "a" * 10_000_000 + "'\n", None, None, "too large", "include"),
        (WEB + "    prots: [80]\n", 4, 5, "no attribute `prots` in `services.web`", "`ports`"),
        ("service: {}\n", 1, 1, "no attribute `service`", "`services`"),
        ("web: {image: x}\nports: []\n", 1, 1, "no attribute `web`", "x-web"),
        (WEB + "    ports: 80\n", 4, 12, "must be a list, not the number 80", ""),
        (WEB + "    hostname: 12\n", 4, 15, "must be text, not the number 12", '"12"'),
        (WEB + "    user:\n", 4, 5, "must be text, not nothing", "value"),
        ("services:\n  web:\n", 2, 3, "must be a mapping, not nothing", ""),
        ("services:\n  a/b: {image: x}\n", 2, 3, "`a/b` is no name", "letters"),
        ("services:\n  '..': {image: x}\n", 2, 3, "`..` is no name", "letters"),
        ("services:\n  w\u0435b: {image: x}\n", 2, 3, "is no name", "letters"),
        (WEB + "    cgroup: none\n", 4, 13, "it is one of `host`, `private`", ""),
        (WEB + "    depends_on: {db: {condition: service_helthy}}\n", 4, 34, "can't be `service_helthy`", "service_healthy"),
        (WEB + "    pull_policy: sometimes\n", 4, 18, "can't be `sometimes`", "always"),
        (WEB + "    cpu_percent: 101\n", 4, 18, "100 or less", ""),
        (WEB + "    volumes: [{source: a}]\n", 4, None, "lacks `type`", "type:"),
        (WEB + "    ports: ['x:80']\n", 4, 13, "`x` is no port number", ""),
        (WEB + "    ports: ['80:99999']\n", 4, 13, "99999 is no port", ""),
        (WEB + "    ports: ['1-3:1-2']\n", 4, 13, "different length", ""),
        (WEB + "    ports: ['9-3']\n", 4, 13, "ends before it begins", ""),
        (WEB + "    ports: ['1.2.3:80:80']\n", 4, 13, "no address", ""),
        (WEB + "    ports: ['80/xyz']\n", 4, 13, "tcp, udp or sctp", ""),
        (WEB + "    ports: [{target: 80, host_ip: a}]\n", 4, None, "`a` is no address", ""),
        (WEB + "    ports: [{published: 80}]\n", 4, None, "lacks `target`", ""),
        (WEB + "    volumes: ['aa:']\n", 4, 15, "nothing between two colons", ""),
        (WEB + "    volumes: ['aa:bb:cc:dd']\n", 4, 15, "too many colons", ""),
        (WEB + "    mem_limit: 1e400g\n", 4, 16, "larger than a size", ""),
        (WEB + "    mem_limit: 12q\n", 4, 16, "is not a size", "" ),
        (WEB + "    stop_grace_period: 5\n", 4, 24, "must be text", '"5"'),
        (WEB + "    stop_grace_period: 9999999999h\n", 4, 24, "292 years", ""),
        (WEB + "    healthcheck: {retries: -1}\n", 4, None, "0 or more", ""),
        (WEB + "    healthcheck: {test: [curl, x]}\n", 4, None, "begins with `curl`", "CMD"),
        (WEB + "    secrets: [{source: a, mode: '9'}]\nsecrets: {a: {file: x}}\n", 4, None, "no file mode", ""),
        (WEB + "    command: \"echo 'a\"\n", 4, 14, "not closed", ""),
        (WEB + "    environment: ['A =1']\n", 4, None, "a space at the end of its name", ""),
        (WEB + "    extra_hosts: [a]\n", 4, None, "has no address", ""),
        ("services:\n  web: {command: a}\n", 2, None, "neither an image nor a build", "image"),
        (WEB + "    networks: [frnt]\nnetworks: {front: {}}\n", 4, 16, "undefined network `frnt`", "`front`"),
        (WEB + "    volumes: ['dta:/d']\nvolumes: {data: {}}\n", 4, 15, "undefined volume `dta`", "`data`"),
        (WEB + "    secrets: [s]\n", 4, 15, "undefined secret `s`", "secrets:"),
        (WEB + "    configs: [c]\n", 4, 15, "undefined config `c`", "configs:"),
        (WEB + "    models: [m]\n", 4, 14, "undefined model `m`", "models:"),
        (WEB + "    depends_on: [databse]\n  database: {image: x}\n", 4, 18, "undefined service `databse`", "`database`"),
        (WEB + "    links: ['nope:n']\n", 4, None, "undefined service `nope`", ""),
        (WEB + "    volumes_from: [nope]\n", 4, None, "undefined service `nope`", ""),
        (WEB + "    network_mode: service:nope\n", 4, 19, "undefined service `nope`", ""),
        (WEB + "    pid: service:nope\n", 4, None, "undefined service `nope`", ""),
        (WEB + "    build: {additional_contexts: {a: service:nope}}\n", 4, None, "undefined service `nope`", ""),
        (WEB + "    network_mode: host\n    networks: [a]\nnetworks: {a: {}}\n", 4, 5, "exclude each other", "keep one"),
        (WEB + "    container_name: one\n    scale: 2\n", 4, 5, "there can't be 2", ""),
        (WEB + "    scale: 2\n    deploy: {replicas: 3}\n", 4, None, "`deploy.replicas: 3`", ""),
        (WEB + "    scale: -1\n", 4, None, "0 or more", ""),
        (WEB + "    cpus: 1\n    deploy: {resources: {limits: {cpus: 2}}}\n", 4, None, "another `deploy.resources", ""),
        (WEB + "    volumes: ['./a:/x']\n    tmpfs: /x\n", 4, None, "two things at `/x`", ""),
        (WEB + "    build: {dockerfile: a, dockerfile_inline: b}\n", 4, None, "`dockerfile_inline`", ""),
        (WEB + "    platform: a\n    build: {platforms: [b]}\n", 5, None, "build.platforms", ""),
        (WEB + "    gpus: [{count: 1, device_ids: ['0']}]\n", 4, None, "exclude each other", ""),
        (WEB + "    develop: {watch: [{path: a, action: sync}]}\n", 4, None, "needs a `target`", ""),
        (WEB + "secrets: {a: {file: x, environment: Y}}\n", 4, None, "it can have one of them", ""),
        (WEB + "configs: {a: {}}\n", 4, None, "not where it comes from", "`content`"),
        (WEB + "volumes: {a: {external: true, driver: x}}\n", 4, None, "external", ""),
        (WEB + "    volumes: ['aa:/d']\nvolumes: {aa: {name: ../b}}\n", 5, None, "can't be the name of a volume", ""),
        (WEB + "include: 3\n", 4, None, "must be a list", ""),
        (WEB + "include: [no.yaml]\n", 4, 11, "no file `no.yaml`", ""),
        (WEB + "include: [compose.yaml]\n", 4, 11, "compose.yaml -> compose.yaml", ""),
        (WEB + "include: ['oci://x/y']\n", 4, 11, "not on this machine", ""),
        (WEB + "    user: \"" + "${A:-" * 100 + "}" * 100 + '"\n', 4, None, "nested deeper", ""),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, str | bytes) and len(value) > 3 else None,
)  # fmt: skip
def test_one_error_each(
    tmp_path: pathlib.Path, text: str | bytes, line: int | None, column: int | None, message: str, hint: str
) -> None:
    started = time.perf_counter()
    error = refused(tmp_path, text)
    assert time.perf_counter() - started < 2
    assert message in error.message
    assert hint in (error.hint or "")
    assert error.exit_code == 2
    if line is not None:
        assert (error.file, error.line) == ("compose.yaml", line)
        assert error.excerpt or line > str(text).count("\n")
    if column is not None:
        assert error.column == column
    assert report.render(error).startswith("error: ")


def test_all_that_is_wrong_in_the_order_of_lines(tmp_path: pathlib.Path) -> None:
    text = "services:\n  web:\n    image: x\n    prots: []\n    restart: 3\n  db:\n    imagee: y\n"
    error = refused(tmp_path, text)
    assert error.line == 4
    assert (error.note or "").splitlines()[0] == "2 more like this:"
    assert "compose.yaml:5:14" in (error.note or "")
    assert "compose.yaml:7:5" in (error.note or "")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "missing"])
def test_files_that_are_none(tmp_path: pathlib.Path, kind: str) -> None:
    path = tmp_path / "spec.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    name = "/dev/zero" if kind == "device" else "spec.yaml"
    assert f"`{name}`" in refused(tmp_path, files=[name]).message
    if kind != "missing":
        write(tmp_path, {"main.yaml": WEB + f"include: [{name}]\n"})
        assert "can't read" in refused(tmp_path, files=["main.yaml"]).message


def test_what_cannot_be_read(tmp_path: pathlib.Path) -> None:
    loop = tmp_path / "compose.yaml"
    loop.symlink_to("compose.yaml")
    assert "symbolic links" in refused(tmp_path, files=["compose.yaml"]).message


@pytest.mark.parametrize("text", ["inputs:\n  nixpkgs: {url: x}\n", "imports: [a]\n", "allowUnfree: true\n"])
def test_the_other_tools_file_is_recognised(tmp_path: pathlib.Path, text: str) -> None:
    write(tmp_path, {"devenv.yaml": text})
    error = refused(tmp_path)
    assert error.message == "`devenv.yaml` belongs to the Nix tool devenv.sh, which has the same file name"
    assert "compose.yaml" in (error.hint or "")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + WEB.encode(),
        WEB.replace("\n", "\r\n").encode(),
        ("\ufeff" + WEB).encode("utf-16-le"),
        ("\ufeff" + WEB).encode("utf-16-be"),
        b'{"services": {"web": {"image": "x"}}}',
        b"---\n" + WEB.encode() + b"...\n",
    ],
)
def test_encodings_and_forms_that_are_fine(tmp_path: pathlib.Path, data: bytes) -> None:
    assert list(load(tmp_path, data).project.services) == ["web"]


def test_yaml_1_2(tmp_path: pathlib.Path) -> None:
    text = (
        WEB
        + "    ports: [22:22]\n    environment: {A: 12:30:45, B: NO, C: 08, D: 1e3, E: on, F: 2024-13-45, G: 0o17, H: ~}\n"
    )
    found = service(tmp_path, text)
    assert found["ports"][0]["published"] == "22"
    assert found["environment"] == {
        "A": "12:30:45", "B": "NO", "C": "8", "D": "1000", "E": "on", "F": "2024-13-45", "G": "15", "H": None,
    }  # fmt: skip


def test_anchors_and_merge_keys(tmp_path: pathlib.Path) -> None:
    text = """
x-a: &a {restart: always, labels: {a: 1}, user: a}
x-b: &b {user: b, labels: {b: 1}}
services:
  web: &web {<<: [*b, *a], image: x, user: own}
  two: {<<: *web, labels: !override {c: 1}, restart: !reset null}
"""
    services = load(tmp_path, text).canonical["services"]
    assert (services["web"]["user"], services["web"]["restart"], services["web"]["labels"]) == (
        "own",
        "always",
        {"b": "1"},
    )
    assert services["two"]["labels"] == {"c": "1"}


def test_a_chain_of_ten_thousand_is_no_cycle_and_quick_enough(tmp_path: pathlib.Path) -> None:
    chain = "".join(f"  s{i}: {{image: x, depends_on: [s{i + 1}]}}\n" for i in range(3000))
    assert len(load(tmp_path, f"services:\n{chain}  s3000: {{image: x}}\n").project.services) == 3001


def test_warnings(tmp_path: pathlib.Path) -> None:
    text = "version: '3'\n" + WEB + "    ready: {http: /}\ntasks: {t: echo}\nnetworks: {n: {external: {name: o}}}\n"
    warnings = " ".join(load(tmp_path, text).warnings)
    for part in ("`version` is obsolete", "deprecated"):
        assert part in warnings
    assert "no attribute `htp`" in refused(tmp_path, WEB + "    ready: {htp: /}\n").message
