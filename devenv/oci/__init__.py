"""The OCI runtime command line: what podman's conmon, containerd's shim and people call `runc` or `crun` for.

Each command is one short-lived process on top of ``devenv.runtime``, the code that runs devenv's own services. There is
no monitor here: whoever calls is the container's parent and waits for it. Standard library only, and quick to start.
"""
