"""A spec for a folder that has none, guessed from what lies in it. Pure: whoever calls has read the files.

What is looked at: Dockerfiles, and the lists of dependencies of the usual languages, in the folder and one level below.
From these come the applications; from the names of client libraries the databases and queues they talk to. Every guess
is said in a comment, since the file is the user's from then on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

# Read if they are there; of the others it is enough to know that they are.
READ = (
    "Dockerfile",
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "Pipfile",
    "Gemfile",
    "go.mod",
    "composer.json",
    "Cargo.toml",
    "prisma/schema.prisma",
)
SEEN = (
    "manage.py",
    "index.html",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "pom.xml",
    "main.py",
    "app.py",
    "index.php",
)


class Proposal(NamedTuple):
    text: str
    found: tuple[str, ...]  # what was recognised, in words


class _Store(NamedTuple):
    name: str
    image: str
    ready: str
    variable: str
    address: str
    words: str  # a regular expression: client libraries
    environment: tuple[str, ...] = ()
    data: str = ""  # where it keeps them


_STORES = (
    _Store(
        "db",
        "postgres:17",
        "postgres",
        "DATABASE_URL",
        "postgres://app:app@db:5432/app",
        r"psycopg|asyncpg|\bpg\b|\bpgx\b|lib/pq|postgres",
        ("POSTGRES_USER: app", "POSTGRES_PASSWORD: app", "POSTGRES_DB: app"),
        "/var/lib/postgresql/data",
    ),
    _Store(
        "mysql",
        "mysql:8.4",
        "mysql",
        "DATABASE_URL",
        "mysql://app:app@mysql:3306/app",
        r"mysql|mariadb",
        ("MYSQL_USER: app", "MYSQL_PASSWORD: app", "MYSQL_DATABASE: app", "MYSQL_RANDOM_ROOT_PASSWORD: yes"),
        "/var/lib/mysql",
    ),
    _Store("mongo", "mongo:8", "mongodb", "MONGO_URL", "mongodb://mongo:27017/app", r"mongo", (), "/data/db"),
    _Store(
        "cache",
        "redis:8",
        "redis",
        "REDIS_URL",
        "redis://cache:6379/0",
        r"\bredis\b|ioredis|bullmq|sidekiq|go-redis|predis",
    ),
    _Store(
        "queue",
        "rabbitmq:4",
        "rabbitmq",
        "AMQP_URL",
        "amqp://guest:guest@queue:5672/",
        r"\bpika\b|amqp|bunny\b|rabbitmq",
    ),
)


class _App(NamedTuple):
    folder: str  # "" is the project's own
    what: str
    port: int = 0
    command: tuple[str, ...] = ()
    dockerfile: str = ""  # "" where it has one of its own
    rebuild: tuple[str, ...] = ()  # files that make another image
    text: str = ""  # that names the libraries
    worker: tuple[str, ...] = ()  # what else runs from the same image


def propose(name: str, files: Mapping[str, str]) -> Proposal | None:
    """``files``: path -> content, of READ and SEEN in the folder and the folders in it. None: nothing is recognised."""
    folders = sorted({path.rpartition("/")[0] if _depth(path) else "" for path in files})
    apps = [app for folder in folders if (app := _recognise(folder, files)) is not None]
    if not apps:
        return None
    stores = [each for each in _STORES if any(re.search(each.words, app.text, re.IGNORECASE) for app in apps)]
    lines = [f"name: {_name(name)}", "", "services:"]
    for app in apps:
        lines += _service(app, stores)
    for each in stores:
        lines += _store(each)
    kept = [each for each in stores if each.data]
    if kept:
        lines += ["volumes:", *(f"  {each.name}: {{}}" for each in kept)]
    while not lines[-1]:
        lines.pop()
    found = [f"{app.what} in `{app.folder or '.'}`" for app in apps] + [f"a client of {each.ready}" for each in stores]
    return Proposal("\n".join(lines) + "\n", tuple(found))


def _depth(path: str) -> bool:
    return "/" in path and not path.startswith("prisma/")


def _name(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-") or "app"


def _recognise(folder: str, files: Mapping[str, str]) -> _App | None:
    own = {name: files[path] for name in (*READ, *SEEN) if (path := f"{folder}/{name}".lstrip("/")) in files}
    text = "\n".join(own.get(name, "") for name in READ if name != "Dockerfile")
    for guess in (_node, _python, _ruby, _go, _php, _rust, _java, _static):
        app = guess(folder, own)
        if app is not None:
            break
    else:
        app = _App(folder, "a Dockerfile") if "Dockerfile" in own else None
    if app is None:
        return None
    if "Dockerfile" in own:
        exposed = re.search(r"(?im)^\s*EXPOSE\s+(\d+)", own["Dockerfile"])
        # It says by itself what runs, and how it is made.
        app = app._replace(dockerfile="", command=(), port=int(exposed[1]) if exposed else app.port)
    return app._replace(text=text)


def _node(folder: str, own: Mapping[str, str]) -> _App | None:
    if "package.json" not in own:
        return None
    try:
        given = json.loads(own["package.json"])
    except ValueError:
        given = {}
    given = given if isinstance(given, dict) else {}
    scripts = given.get("scripts") if isinstance(given.get("scripts"), dict) else {}
    script = next((name for name in ("dev", "start", "serve") if name in (scripts or {})), "start")
    text = own["package.json"]
    ports = (('"vite"', 5173), ('"@angular/core"', 4200), ('"astro"', 4321), ('"@vue/cli-service"', 8080))
    port = next((number for word, number in ports if word in text), 3000)
    lock, install = next(
        (
            pair
            for pair in (
                ("pnpm-lock.yaml", "corepack enable && pnpm install --frozen-lockfile"),
                ("yarn.lock", "corepack enable && yarn install --frozen-lockfile"),
                ("package-lock.json", "npm ci"),
            )
            if pair[0] in own
        ),
        ("", "npm install"),
    )
    manifests = ("package.json", lock) if lock else ("package.json",)
    return _App(
        folder,
        "a Node project",
        port,
        ("npm", "run", script, *(("--", "--host", "0.0.0.0") if port == 5173 else ())),
        _dockerfile("node:22-slim", manifests, f"RUN --mount=type=cache,target=/root/.npm {install}"),
        manifests,
    )


def _python(folder: str, own: Mapping[str, str]) -> _App | None:
    manifests = [name for name in ("requirements.txt", "pyproject.toml", "Pipfile") if name in own]
    if not manifests:
        script = next((name for name in ("main.py", "app.py") if name in own), "")
        # With nothing to install.
        dockerfile = _dockerfile("python:3.13-slim", (), "")
        return _App(folder, "a Python script", 0, ("python", script), dockerfile) if script else None
    text = "\n".join(own[name] for name in manifests).lower()
    command: tuple[str, ...]
    module = "main" if "main.py" in own else "app"
    if "manage.py" in own or "django" in text:
        what, port, command = "a Django project", 8000, ("python", "manage.py", "runserver", "0.0.0.0:8000")
    elif "fastapi" in text or "starlette" in text:
        command = ("uvicorn", f"{module}:app", "--host", "0.0.0.0", "--port", "8000", "--reload")
        what, port = "a FastAPI project", 8000
    elif "flask" in text:
        what, port = "a Flask project", 5000
        command = ("flask", "--app", module, "run", "--host", "0.0.0.0", "--debug")
    else:
        what, port, command = "a Python project", 0, ("python", f"{module}.py")
    if "requirements.txt" in own:
        install = "pip install -r requirements.txt"
    elif "pyproject.toml" in own:
        install = "pip install ."
    else:
        install = "pip install pipenv && pipenv install --system --dev"
    step = f"RUN --mount=type=cache,target=/root/.cache/pip {install}"
    early = [] if install == "pip install ." else manifests
    return _App(
        folder,
        what,
        port,
        command,
        _dockerfile("python:3.13-slim", early, step),
        tuple(manifests),
        worker=("celery", "-A", module, "worker") if "celery" in text else (),
    )


def _ruby(folder: str, own: Mapping[str, str]) -> _App | None:
    if "Gemfile" not in own:
        return None
    rails = "rails" in own["Gemfile"]
    command = ("bin/rails", "server", "-b", "0.0.0.0") if rails else ("bundle", "exec", "ruby", "app.rb")
    install = "RUN --mount=type=cache,target=/usr/local/bundle/cache bundle install"
    what = "a Rails project" if rails else "a Ruby project"
    worker = ("bundle", "exec", "sidekiq") if "sidekiq" in own["Gemfile"] else ()
    dockerfile = _dockerfile("ruby:3.4", ("Gemfile*",), install)
    return _App(folder, what, 3000 if rails else 4567, command, dockerfile, ("Gemfile", "Gemfile.lock"), worker=worker)


def _go(folder: str, own: Mapping[str, str]) -> _App | None:
    if "go.mod" not in own:
        return None
    install = "RUN --mount=type=cache,target=/go/pkg/mod go mod download"
    dockerfile = _dockerfile("golang:1.25", ("go.*",), install)
    return _App(folder, "a Go project", 8080, ("go", "run", "."), dockerfile, ("go.mod", "go.sum"))


def _php(folder: str, own: Mapping[str, str]) -> _App | None:
    if "composer.json" not in own:
        served = ("php", "-S", "0.0.0.0:8000")
        dockerfile = _dockerfile("php:8.4-cli", (), "")
        return _App(folder, "PHP pages", 8000, served, dockerfile) if "index.php" in own else None
    install = "RUN --mount=type=cache,target=/tmp/cache composer install --no-interaction"
    command = ("php", "-S", "0.0.0.0:8000", "-t", "public")
    return _App(
        folder, "a PHP project", 8000, command, _dockerfile("composer:2", ("composer.*",), install), ("composer.json",)
    )


def _rust(folder: str, own: Mapping[str, str]) -> _App | None:
    if "Cargo.toml" not in own:
        return None
    return _App(folder, "a Rust project", 8080, ("cargo", "run"), _dockerfile("rust:1", (), ""), ("Cargo.toml",))


def _java(folder: str, own: Mapping[str, str]) -> _App | None:
    if "pom.xml" not in own:
        return None
    dockerfile = _dockerfile("maven:3-eclipse-temurin-21", ("pom.xml",), "RUN mvn -q dependency:go-offline")
    return _App(folder, "a Maven project", 8080, ("mvn", "spring-boot:run"), dockerfile, ("pom.xml",))


def _static(folder: str, own: Mapping[str, str]) -> _App | None:
    if "index.html" not in own:
        return None
    return _App(folder, "a static site", 80, (), "FROM nginx:alpine\nCOPY . /usr/share/nginx/html")


def _dockerfile(image: str, manifests: Sequence[str], install: str) -> str:
    lines = [f"FROM {image}", "WORKDIR /app"]
    if manifests:
        lines += [f"COPY {' '.join(manifests)} ./", install, "COPY . ."]
    else:
        lines += ["COPY . .", *([install] if install else [])]
    return "\n".join(lines)


def _service(app: _App, stores: Iterable[_Store]) -> Iterator[str]:
    name = app.folder.rpartition("/")[2] or "app"
    used = [each for each in stores if re.search(each.words, app.text, re.IGNORECASE)]
    yield f"  {name}: # {app.what}"
    yield from _build(app)
    if app.command:
        yield f"    command: {_flow(app.command)}"
    if app.port:
        # An ordinary user may not publish one below 1024.
        host = app.port if app.port >= 1024 else 8000 + app.port
        yield f'    ports: ["{host}:{app.port}"] # a guess: where it listens'
    yield from _uses(used)
    if not app.dockerfile:
        yield ""
        return
    yield "    develop:"
    yield "      watch: # for `devenv up --watch`"
    for path in app.rebuild:
        yield f"        - {{path: {_path(app.folder, path)}, action: rebuild}}"
    target = "/usr/share/nginx/html" if app.what == "a static site" else "/app"
    ignore = ", ignore: [node_modules/]" if "Node" in app.what else ""
    yield f"        - {{path: {_path(app.folder, '')}, action: sync, target: {target}{ignore}}}"
    yield ""
    if app.worker:
        yield f"  {name}-worker:"
        yield from _build(app)
        yield f"    command: {_flow(app.worker)}"
        yield from _uses(used)
        yield ""


def _build(app: _App) -> Iterator[str]:
    context = _path(app.folder, "")
    if not app.dockerfile:
        yield f"    build: {context}"
        return
    yield "    build:"
    yield f"      context: {context}"
    yield "      dockerfile_inline: | # put it into a Dockerfile when it grows"
    for line in app.dockerfile.splitlines():
        yield f"        {line}"


def _uses(stores: Sequence[_Store]) -> Iterator[str]:
    if not stores:
        return
    yield "    environment:"
    for each in stores:
        yield f"      {each.variable}: {each.address}"
    yield "    depends_on:"
    for each in stores:
        yield f"      {each.name}: {{condition: service_healthy}}"


def _store(store: _Store) -> Iterator[str]:
    yield f"  {store.name}:"
    yield f"    image: {store.image}"
    if store.environment:
        yield "    environment:"
        for line in store.environment:
            name, _, value = line.partition(": ")
            yield f'      {name}: "{value}"'
    if store.data:
        yield f'    volumes: ["{store.name}:{store.data}"]'
    yield f"    ready: {store.ready}"
    yield ""


def _path(folder: str, name: str) -> str:
    return "./" + "/".join(part for part in (folder, name) if part) if folder or name else "."


def _flow(words: Sequence[str]) -> str:
    return json.dumps(list(words))
