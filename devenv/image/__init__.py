"""Images: what a reference means, where its content lies, and layers unpacked once and shared read-only.

An image ends here as a list of lower folders and a config. What is put on top of them, and mounted, is
the business of ``devenv.runtime``.
"""
