"""Sinks of ``devenv.events.Event``: how progress looks. Data goes to stdout, so all of these write to stderr.

``tty`` redraws one line a resource, ``plain`` prints a line an event, ``jsonl`` an object an event, ``quiet`` nothing;
``sink`` chooses. ``steps`` does so for what builds tell. Nothing here talks to a supervisor.
"""
