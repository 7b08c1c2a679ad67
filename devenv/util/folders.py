"""How a command finds the processes of the project whose folder it stands in. Imports nothing: the fast path does."""


def link(run: str, folder: str) -> str:
    """Where a supervisor leaves word, as a symbolic link to its own folder, that it serves ``folder``."""
    return f"{run}/folders/" + folder.replace("%", "%25").replace("/", "%2F")
