"""A page that counts its visitors: all of them in Postgres, those of the last minute in Redis."""

import os
import time

import flask
import psycopg
import redis

GREETING = "Hello"

app = flask.Flask(__name__)


def database() -> psycopg.Connection:
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def cache() -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"])


def sentence(every: int, lately: int) -> str:
    return f"{GREETING}: {every} visits, {lately} in the last minute"


@app.get("/")
def page() -> str:
    with database() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now())")
        connection.execute("INSERT INTO visits DEFAULT VALUES")
        row = connection.execute("SELECT count(*) FROM visits").fetchone()
    key = f"visits:{int(time.time()) // 60}"
    lately = cache().incr(key)
    cache().expire(key, 120)
    return sentence(row[0], lately)


@app.get("/health")
def health() -> str:
    with database() as connection:
        connection.execute("SELECT 1")
    cache().ping()
    return "ok"
