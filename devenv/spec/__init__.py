"""From YAML files to one canonical project: load, interpolate, merge, validate, normalise, digest.

Pure but for reading the files it is pointed to; the only package that imports ``yaml`` and ``pydantic``.
It knows no mechanism, and whether the machine can do what a project asks for is not its question.
"""
