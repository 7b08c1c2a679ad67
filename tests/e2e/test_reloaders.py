"""Applications as people write them: a file is saved, and the next answer is another one."""

from __future__ import annotations

import contextlib
import urllib.request

import pytest

from tests.support import projects, real, runner
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, real.APPS.needed, pytest.mark.timeout(300)]

# No bytecode: it is kept for a source of the same second and size, and here two saves are.
SPEC = """
    name: apps
    x-app: &app
      image: docker-archive:{archive}
      working_dir: /app
      stop_signal: SIGKILL
      environment: {{PYTHONUNBUFFERED: "1", PYTHONDONTWRITEBYTECODE: "1"}}
    services:
      app:
        <<: *app
        command: {command}
        ports: ["127.0.0.1:0:8000"]
        develop:
          watch: [{{path: ./src, target: /app, action: {action}, initial_sync: true}}]
"""

FLASK = "import flask\napp = flask.Flask(__name__)\n\n@app.get('/')\ndef hello():\n    return 'one'\n"
DJANGO = """\
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.urls import path

settings.configure(DEBUG=True, SECRET_KEY='x', ALLOWED_HOSTS=['*'], ROOT_URLCONF='urls')
if __name__ == '__main__':
    execute_from_command_line(sys.argv)
"""
URLS = """\
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path('', lambda request: HttpResponse('one'))]
"""
NODE = "require('http').createServer((_, answer) => answer.end('one')).listen(8000, '0.0.0.0')\n"

# What the service runs, which action its rule has, the files, and the one that says `one`.
APPS = {
    "flask": ("[flask, --app, main, --debug, run, -h, '0.0.0.0', -p, '8000']", "sync", {"main.py": FLASK}, "main.py"),
    "django": (
        "[python3, manage.py, runserver, '0.0.0.0:8000']",
        "sync",
        {"manage.py": DJANGO, "urls.py": URLS},
        "urls.py",
    ),
    "node": ("[node, --watch, server.js]", "sync", {"server.js": NODE}, "server.js"),
    "node without a reloader": ("[node, server.js]", "sync+restart", {"server.js": NODE}, "server.js"),
    "static": ("[python3, -m, http.server, '8000']", "sync", {"index.html": "one"}, "index.html"),
}


@pytest.mark.parametrize("kind", APPS)
def test_a_saved_file_is_answered_with(devenv: runner.Devenv, project: projects.Project, kind: str) -> None:
    command, action, files, named = APPS[kind]
    project.write(SPEC.format(archive=real.APPS.archive, command=command, action=action))
    project.write({f"src/{name}": text for name, text in files.items()})
    devenv("up", "-d", "--wait", "--watch", timeout=200)
    before = devenv.ps()["apps-app-1"]["ID"]
    address = f"http://{devenv('port', 'app', '8000').stdout.strip()}/"

    def answers(text: str) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.read().decode() == text)
        return False  # it is just starting again

    eventually(lambda: answers("one"), 60.0)
    file = project / "src" / named
    for word, next_word in (("one", "two"), ("two", "three")):
        text = file.read_text().replace(f"'{word}'", f"'{next_word}'").replace(word, next_word)
        file.write_text(text)
        eventually(lambda text=text: devenv("exec", "-T", "app", "cat", f"/app/{named}").stdout == text, 20.0)
        try:
            eventually(lambda next_word=next_word: answers(next_word), 10.0 if kind == "django" else 60.0)
        except AssertionError:
            if kind != "django":
                raise
            # It answers before its reloader has noted the files' times, and never sees a save in between.
            file.write_text(f"{text}\n")
            eventually(lambda next_word=next_word: answers(next_word), 60.0)
    assert devenv.ps()["apps-app-1"]["ID"] == before
