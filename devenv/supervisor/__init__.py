"""The process that keeps a project as it should be, how it is started, and how commands talk to it.

``protocol`` and ``client`` are the standard library only: they are what a command waits for. Decisions
are made in ``devenv.reconcile``.
"""
