"""Rules that a service has by its Dockerfile: what each file of the context is to the image."""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devenv import errors
from devenv.image import store as image_store
from devenv.reconcile import derived, desired, explaining, syncing
from devenv.util import paths

Ask = Callable[..., list[str]]


class Context:
    def __init__(self, folder: pathlib.Path, store: image_store.ImageStore, where: paths.Paths) -> None:
        self.folder = folder
        self._machine = derived.Machine(where, store, {})

    def write(self, **files: str) -> None:
        for name, text in files.items():
            self.put(name, text)

    def put(self, name: str, text: str = "x") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def dockerfile(self, text: str) -> None:
        self.put("Dockerfile", textwrap.dedent(text))

    def found(self, **service: Any) -> tuple[desired.Environment, syncing.Found]:
        given = {"build": {"context": str(self.folder)}, "command": ["nginx"], **service}
        project = {"name": "p", "services": {"web": given}}
        environment = desired.from_json({"project": project, "directory": str(self.folder)})
        return environment, syncing.make_rules(environment, ["web"], self._machine)

    def ask(self, *names: str, **service: Any) -> list[str]:
        """For each file the action, where it goes to, and the line of the step."""
        environment, found = self.found(**service)
        told = explaining.explain(environment, ["web"], found, [str(self.folder / name) for name in names])
        return [" ".join(filter(None, (each.action, each.target, each.place.rpartition(":")[2]))) for each in told]


@pytest.fixture
def context(tmp_path: pathlib.Path) -> Iterator[Context]:
    where = paths.Paths(data=str(tmp_path / "data"), run=str(tmp_path / "run"))
    (tmp_path / "project").mkdir()
    store = image_store.ImageStore(where)
    made = Context(tmp_path / "project", store, where)
    for name in ("package.json", "package-lock.json", "src/a.js", "src/deep/b.js", "static/x.css", "README.md"):
        made.put(name)
    yield made
    store.close()


def test_what_a_command_reads_is_rebuilt_and_the_rest_synced(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch
        WORKDIR /app
        COPY package*.json ./
        RUN npm ci
        COPY . .
        """)
    asked = ("package.json", "package-lock.json", "package-new.json", "src/deep/b.js", "src/new.js", "src/package.json")
    assert context.ask(*asked) == [
        "rebuild 3",
        "rebuild 3",
        "rebuild 3",
        "sync /app/src/deep/b.js 5",
        "sync /app/src/new.js 5",
        "sync /app/src/package.json 5",
    ]


def test_a_later_command_reads_all_that_lies_below_it(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch
        COPY src /app/src
        RUN npm run build
        COPY static /app/static
        """)
    assert context.ask("src/a.js", "static/x.css", "README.md") == [
        "rebuild 2",
        "sync /app/static/x.css 4",
        "nothing",
    ]


def test_the_why_names_the_command(context: Context) -> None:
    context.dockerfile("FROM scratch\nCOPY package.json /\nRUN npm ci\n")
    environment, found = context.found()
    (answer,) = explaining.explain(environment, ["web"], found, [str(context.folder / "package.json")])
    assert answer.step == "`COPY package.json /`"
    assert answer.place == "Dockerfile:2"
    assert answer.why == "`RUN npm ci` (Dockerfile:3) can read it"


def test_through_another_stage(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch AS build
        WORKDIR /src
        COPY package.json .
        RUN npm ci
        COPY src src
        COPY static static
        FROM scratch
        COPY --from=build /src/static /www
        COPY --from=build /src/src/a.js /bin/main.js
        """)
    assert context.ask("package.json", "static/x.css", "src/a.js", "src/deep/b.js") == [
        "rebuild 3",
        "sync /www/x.css 6",
        "sync /bin/main.js 5",
        "nothing",
    ]


def test_what_a_command_of_another_stage_reads(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch AS build
        COPY . /src
        RUN make
        FROM scratch
        COPY --from=build /src/out /app
        COPY static /static
        """)
    assert context.ask("src/a.js", "static/x.css") == ["rebuild 2", "rebuild 2"]


def test_a_stage_that_the_target_does_not_need_reads_nothing(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch AS base
        COPY src /app
        FROM base AS test
        RUN npm test
        FROM base AS dev
        """)
    assert context.ask("src/a.js") == ["sync /app/a.js 2"]
    build = {"context": str(context.folder), "target": "test"}
    assert context.ask("src/a.js", build=build) == ["rebuild 2"]


def test_what_is_mounted_for_a_command_is_read_by_it(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch
        RUN --mount=type=bind,source=package.json,target=/p.json npm ci
        COPY . /app
        """)
    assert context.ask("package.json", "src/a.js") == ["rebuild 2", "sync /app/src/a.js 3"]


def test_what_the_context_leaves_out(context: Context) -> None:
    context.put(".dockerignore", "*\n!src\nsrc/deep\n")
    context.dockerfile("FROM scratch\nCOPY . /app\n")
    assert context.ask("README.md", "src/a.js", "src/deep/b.js") == ["nothing", "sync /app/src/a.js 2", "nothing"]


def test_what_says_how_it_is_built_is_rebuilt(context: Context) -> None:
    context.dockerfile("FROM scratch\nCOPY . /app\n")
    assert context.ask("Dockerfile", ".dockerignore") == ["rebuild", "rebuild"]


def test_flags_of_copy(context: Context) -> None:
    context.dockerfile("""\
        FROM scratch
        COPY --exclude=deep --chmod=700 src /app
        COPY --parents static/*.css /www/
        """)
    assert context.ask("src/a.js", "src/deep/b.js", "static/x.css", "static/x.js") == [
        "sync /app/a.js 2",
        "nothing",
        "sync /www/static/x.css 3",
        "nothing",
    ]
    _, found = context.found()
    mode = next(rule.mode for rule in found.rules if rule.target == "/app")
    assert mode is not None
    assert mode(0o100644) & 0o777 == 0o700


def test_what_a_later_step_lies_over(context: Context) -> None:
    context.put("overlay/a.js")
    context.dockerfile("""\
        FROM scratch
        COPY src /app
        COPY overlay /app
        COPY README.md /app/deep/b.js
        """)
    assert context.ask("src/a.js", "overlay/a.js", "src/deep/b.js", "README.md") == [
        "nothing",
        "sync /app/a.js 3",
        "nothing",
        "sync /app/deep/b.js 4",
    ]


def test_variables_are_those_of_the_build(context: Context) -> None:
    context.dockerfile("FROM scratch\nARG FROM_DIR=src\nENV TO=/app\nCOPY $FROM_DIR $TO\n")
    build = {"context": str(context.folder), "args": {"FROM_DIR": "static"}}
    assert context.ask("static/x.css", "src/a.js", build=build) == ["sync /app/x.css 4", "nothing"]


def test_an_interpreter_that_does_not_reload_is_restarted(context: Context) -> None:
    context.dockerfile('FROM scratch\nCOPY src /app\nCMD ["node", "a.js"]\n')
    assert context.ask("src/a.js", command=None) == ["sync+restart /app/a.js 2"]
    assert context.ask("src/a.js", command=["nodemon", "a.js"]) == ["sync /app/a.js 2"]


def test_what_a_bind_mount_shows_needs_no_sync(context: Context) -> None:
    context.dockerfile("FROM scratch\nCOPY package.json /app/\nRUN npm ci\nCOPY . /app\n")
    mount = {"type": "bind", "source": str(context.folder / "src"), "target": "/app/src"}
    assert context.ask("package.json", "src/a.js", "README.md", volumes=[mount]) == [
        "rebuild 2",
        "nothing",
        "sync /app/README.md 4",
    ]


def test_what_a_volume_lies_over_is_left_alone(context: Context) -> None:
    context.dockerfile("FROM scratch\nCOPY . /app\n")
    volume = {"type": "volume", "source": "data", "target": "/app/static"}
    assert context.ask("static/x.css", "src/a.js", "README.md", volumes=[volume], tmpfs=["/app/src:size=1m"]) == [
        "nothing",
        "nothing",
        "sync /app/README.md 2",
    ]


def test_rules_of_ones_own_take_their_place(context: Context) -> None:
    context.dockerfile("FROM scratch\nCOPY . /app\n")
    rule = {"path": str(context.folder / "src"), "action": "restart"}
    assert context.ask("src/a.js", "README.md", develop={"watch": [rule]}) == [
        "restart services.web.develop.watch[0]",
        "nothing",
    ]
    assert context.ask("src/a.js", develop={"watch": []}) == ["nothing"]


def test_a_dockerfile_that_cannot_be_followed_is_said(context: Context) -> None:
    context.dockerfile("FROM not.there/image\nCOPY . /app\n")
    _, found = context.found()
    assert not found.rules
    assert "`not.there/image:latest` is not here" in found.warnings[0].text


def test_folders_that_no_rule_is_about_are_not_watched(context: Context) -> None:
    context.put("node_modules/x/index.js")
    context.put(".dockerignore", "node_modules\n")
    context.dockerfile("FROM scratch\nCOPY package*.json /\nRUN npm ci\nCOPY src /src\n")
    _, found = context.found()
    folder = str(context.folder / "node_modules")
    assert all(rule.prunes(folder) for rule in found.rules)


def test_rules_that_rebuild_need_a_build() -> None:
    rule = {"path": "/x", "action": "rebuild"}
    project = {"name": "p", "services": {"web": {"image": "x", "develop": {"watch": [rule]}}}}
    environment = desired.from_json({"project": project, "directory": "/"})
    with pytest.raises(errors.UsageError, match="no `build:`"):
        syncing.make_rules(environment, ["web"], derived.Machine(paths.locate(), None, {}))  # type: ignore[arg-type]
