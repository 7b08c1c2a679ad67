"""Images from Dockerfiles: contexts, steps, their cache, and the images that come of them.

Nothing here knows of services or of ``devenv.yaml``: a ``request.Request`` says what to build.
"""
