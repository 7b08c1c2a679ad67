"""Every flag of docker compose's commands is there, or stands in a list with its reason."""

from __future__ import annotations

import pytest

from devenv.cli import app, commands

# docker compose v5, docs/reference/*.yaml; hidden ones left out.
COMPOSE = {
    "up": """--abort-on-container-exit --abort-on-container-failure --always-recreate-deps --attach
        --attach-dependencies --build --detach -d --exit-code-from --force-recreate --menu --no-attach --no-build
        --no-color --no-deps --no-log-prefix --no-recreate --no-start --pull --quiet-build --quiet-pull
        --remove-orphans --renew-anon-volumes -V --scale --timeout -t --timestamps --wait --wait-timeout --watch -w
        --yes -y""",
    "build": """--build-arg --builder --check --memory -m --no-cache --print --progress --provenance --pull --push
        --quiet -q --sbom --ssh --with-dependencies""",
    "down": "--remove-orphans --rmi --timeout -t --volumes -v",
    "ps": "--all -a --filter --format --no-trunc --orphans --quiet -q --services --status",
    "ls": "--all -a --filter --format --quiet -q",
    "logs": """--follow -f --index --no-color --no-log-prefix --since --tail -n --timestamps -t --until""",
    "exec": "--detach -d --env -e --index --no-tty -T --privileged --user -u --workdir -w",
    "run": """--build --cap-add --cap-drop --detach -d --entrypoint --env -e --env-from-file --interactive -i --label -l
        --name --no-deps --no-tty -T --publish -p --pull --quiet -q --quiet-build --quiet-pull --remove-orphans --rm
        --service-ports -P --use-aliases --user -u --volume -v --workdir -w""",
    "create": """--build --force-recreate --no-build --no-recreate --pull --quiet-pull --remove-orphans --scale
        --yes -y""",
    "start": "--wait --wait-timeout",
    "stop": "--timeout -t",
    "restart": "--no-deps --timeout -t",
    "kill": "--remove-orphans --signal -s",
    "rm": "--force -f --stop -s --volumes -v",
    "pause": "",
    "unpause": "",
    "scale": "--no-deps",
    "port": "--index --protocol",
    "top": "",
    "events": "--json --since --until",
    "wait": "--down-project",
    "images": "--format --quiet -q",
    "version": "--format -f --short",
}
# docker build, which is buildx build; those of buildx' other builders and of Windows left out.
DOCKER_BUILD = """--add-host --allow --attest --build-arg --build-context --builder --cache-from --cache-to --call
    --check --debug -D --file -f --iidfile --label --load --metadata-file --network --no-cache --no-cache-filter
    --output -o --platform --progress --provenance --pull --push --quiet -q --sbom --secret --shm-size --ssh --tag -t
    --target --ulimit"""
GLOBAL = """--all-resources --ansi --compatibility --dry-run --env-file --file -f --parallel --profile --progress
    --project-directory --project-name -p --verbose --version -v --debug --help"""


def options_of(command: object) -> set[str]:
    parameters = command.params  # type: ignore[attr-defined]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("name", sorted(COMPOSE))
def test_flags_of_docker_compose(name: str) -> None:
    found = options_of(app.load(name, commands.COMMANDS[name]))
    assert set(COMPOSE[name].split()) - found == set()


def test_flags_of_docker_build() -> None:
    assert set(DOCKER_BUILD.split()) <= options_of(app.load("build", commands.COMMANDS["image"].group["build"]))


def test_global_flags() -> None:
    assert set(GLOBAL.split()) - {"--help"} <= options_of(app.click_group())


@pytest.mark.parametrize("name", app.app_names())
def test_every_option_has_words(name: str) -> None:
    for parameter in app.load(name, commands.COMMANDS[name]).params:
        assert parameter.param_type_name == "argument" or parameter.hidden or parameter.help, parameter.opts


@pytest.mark.parametrize("name", ["exec", "run"])
def test_options_after_the_service_belong_to_the_command(name: str) -> None:
    command = app.load(name, commands.COMMANDS[name])
    context = command.make_context(name, ["-e", "A=1", "web", "ls", "-la", "--env", "x"])
    assert context.params["service"] == "web"
    assert list(context.params["words"]) == ["ls", "-la", "--env", "x"]
    assert list(context.params["env"]) == ["A=1"]


@pytest.mark.parametrize(
    ("name", "argv", "expected"),
    [
        ("ps", ["--orphans=false", "-a=true"], {"orphans": False, "every": True}),
        ("ps", ["--all=false"], {"every": False}),
        ("up", ["--scale", "--wait=false", "--wait=1"], {"scale": ["--wait=false"], "wait": True}),
        (
            "exec",
            ["--interactive=false", "web", "x", "--tty=false"],
            {"interactive": False, "words": ["x", "--tty=false"]},
        ),
        ("logs", ["--", "--follow=false"], {"services": ["--follow=false"], "follow": False}),
    ],
)
def test_flags_take_true_and_false(name: str, argv: list[str], expected: dict[str, object]) -> None:
    context = app.load(name, commands.COMMANDS[name]).make_context(name, argv)
    found = {key: context.params[key] for key in expected}
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()} == expected


@pytest.mark.parametrize(
    ("name", "argv", "dry_run"),
    [
        ("up", ["-d", "--dry-run", "web"], True),
        ("up", ["--scale", "--dry-run"], False),
        ("run", ["web", "make", "--dry-run"], False),
        ("run", ["--dry-run", "web", "make", "--dry-run"], True),
    ],
)
def test_dry_run_may_stand_after_the_command(name: str, argv: list[str], dry_run: bool) -> None:
    context = app.load(name, commands.COMMANDS[name]).make_context(name, argv)
    assert (context.obj is not None and context.obj.dry_run) is dry_run
