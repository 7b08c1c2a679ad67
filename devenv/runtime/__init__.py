"""The OCI runtime: a bundle in, a container out, and the monitor that keeps its logs and its exit code.

Standard library, ``devenv.linux`` and ``devenv.util`` only: it runs under ``python -I -S`` in a process
without threads. What a service asks for is turned into a bundle by ``devenv.reconcile``; nothing here
reads ``devenv.yaml``.
"""
