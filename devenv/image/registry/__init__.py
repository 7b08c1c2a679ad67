"""Talking to registries, as the OCI distribution specification has it: manifests and blobs, there and back.

Nothing here keeps anything: what is fetched goes to whoever asked, verified. Storing and unpacking are the business
of ``devenv.image``'s other modules.

    session ─▶ authorizer ─▶ http      one request, with rights, retried
    resolver   from a reference to a manifest        fetcher   blobs, resumed        pusher   the other way
    hosts      where a registry is, its mirrors and certificates        credentials   whose name one goes by
"""
