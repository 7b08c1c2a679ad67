"""The command line: one module a command, each parses, calls and renders.

The only package that prints, exits, or imports ``typer``. Data goes to stdout and everything else to
stderr.
"""
