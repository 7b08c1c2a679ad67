"""Who needs whom: the dependency graph of a project's services, its order and its cycles.

Pure; the only package that imports ``networkx``.
"""
