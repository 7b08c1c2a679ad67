"""devenv: a project's whole development environment from one file."""

__version__ = "0.1.0"
