"""Things that could be a library of their own: files, paths, locks, identities, templates.

Nothing here knows what a container or a service is, and nothing imports another package of ours but
``devenv.errors``.
"""
