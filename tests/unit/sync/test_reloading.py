"""Whether a program notices a change by itself."""

from __future__ import annotations

import shlex

import pytest

from devenv.sync import reloading


@pytest.mark.parametrize(
    ("command", "restart"),
    [
        ("python app.py", True),
        ("python3.13 -m app", True),
        ("node server.js", True),
        ("npm start", True),
        ("gunicorn app:app", True),
        ("flask run", True),
        ("bundle exec puma", True),
        ("java -jar app.jar", True),
        ("sh -c 'exec python app.py'", True),
        ("/usr/bin/env python3 app.py", True),
        ("flask run --debug", False),
        ("uvicorn app:app --reload", False),
        ("gunicorn --reload app:app", False),
        ("python manage.py runserver 0.0.0.0:8000", False),
        ("nodemon server.js", False),
        ("npx nodemon server.js", False),
        ("node --watch server.js", False),
        ("npm run dev", False),
        ("yarn start:dev", False),
        ("next dev", False),
        ("node_modules/.bin/vite --host", False),
        ("bundle exec rails s -b 0.0.0.0", False),
        ("cargo watch -x run", False),
        ("sh -c 'python manage.py migrate && python manage.py runserver'", False),
        ("php-fpm", False),
        ("nginx -g 'daemon off;'", False),
        ("/app/server", False),
    ],
)
def test_by_its_words(command: str, restart: bool) -> None:
    assert reloading.judge(shlex.split(command), {}).restart is restart


def test_flask_by_its_environment() -> None:
    assert not reloading.judge(["flask", "run"], {"FLASK_DEBUG": "1"}).restart
    assert reloading.judge(["flask", "run"], {"FLASK_DEBUG": "0"}).restart


def test_a_script_that_no_shell_could_read_is_still_looked_at() -> None:
    assert reloading.judge(["sh", "-c", "python app.py 'unclosed"], {}).restart


def test_no_command_is_no_interpreter() -> None:
    assert not reloading.judge([], {}).restart
