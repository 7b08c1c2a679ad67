"""The kernel, one function a system call, named as its manual page.

Raises plain ``OSError``; has no policy and makes no decision. The only package that imports ``ctypes``.
Standard library only, and cheap to import: every container is forked from a process that holds it.
"""
