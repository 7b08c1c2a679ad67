"""Which commands there are and where each one lives. Data only: ``--help`` reads this table and imports no command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Command(NamedTuple):
    module: str  # below devenv.cli
    help: str
    function: str = "command"
    positional: bool = False  # options end at the first argument: the rest belongs to somebody else's command
    hidden: bool = False
    group: Mapping[str, Command] = {}  # what a command of commands has, in place of a module

    @property
    def target(self) -> str:
        return f"devenv.cli.{self.module}:{self.function}"


COMMANDS: dict[str, Command] = {
    "up": Command("up", "Create and start services, and follow their logs"),
    "down": Command("down", "Stop and remove containers and networks"),
    "ps": Command("ps", "List containers"),
    "ls": Command("ls", "List projects"),
    "logs": Command("logs", "Show the output of services"),
    "exec": Command("exec", "Run a command in a running container", positional=True),
    "run": Command("run", "Run a one-off command on a service", positional=True),
    "attach": Command("attach", "Join the terminal, or the standard streams, of a service's container"),
    "create": Command("create", "Create containers without starting them"),
    "start": Command("start", "Start stopped services"),
    "stop": Command("stop", "Stop running services"),
    "restart": Command("restart", "Restart services"),
    "kill": Command("kill", "Send a signal to services"),
    "rm": Command("rm", "Remove stopped containers"),
    "pause": Command("pause", "Pause services"),
    "unpause": Command("pause", "Resume paused services", function="unpause"),
    "scale": Command("scale", "Set how many containers a service has"),
    "port": Command("port", "Print the host port that a service's port is published at"),
    "top": Command("top", "Show the processes of services"),
    "stats": Command("stats", "Show what containers use of processors, memory, network and disks"),
    "ui": Command("ui", "Show services, logs and plans on one screen, with keys to act on them"),
    "watch": Command("watch", "Carry changed files into services, or restart them, as `develop.watch` says"),
    "events": Command("events", "Follow what happens to containers, or show what has happened"),
    "wait": Command("wait", "Wait until services stop, and print their exit codes"),
    "images": Command("images", "List the images that containers use"),
    "cp": Command("cp", "Copy files between a service and this machine"),
    "export": Command("container_export", "Write the files of a service's container to a tar archive"),
    "commit": Command("container_commit", "Make an image of what a service's container has changed"),
    "build": Command("build", "Build the images of services"),
    "pull": Command("pull", "Pull the images of services"),
    "push": Command("push", "Push the images of services"),
    "lock": Command("lock", "Write devenv.lock: which images the services' names mean"),
    "outdated": Command("lock", "List locked images that have moved since", function="outdated"),
    "upgrade": Command("lock", "Lock and pull what the images are now", function="upgrade"),
    "image": Command(
        "",
        "Manage images",
        group={
            "build": Command("image_build", "Build an image from a Dockerfile"),
            "ls": Command("image_ls", "List images"),
            "list": Command("image_ls", "Same as ls", hidden=True),
            "pull": Command("image_pull", "Pull an image from its registry"),
            "push": Command("image_push", "Push an image to its registry"),
            "tag": Command("image_tag", "Give an image another name"),
            "rm": Command("image_rm", "Remove images"),
            "inspect": Command("image_inspect", "Show all about images"),
            "history": Command("image_inspect", "Show how an image came to be", function="history"),
            "save": Command("image_archive", "Write images to an archive", function="save_command"),
            "load": Command("image_archive", "Load the images of an archive", function="load_command"),
            "import": Command("image_archive", "Make an image from an archive of files", function="import_command"),
            "bootstrap": Command("image_bootstrap", "Make a base image from a mirror of packages"),
            "diff": Command("image_diff", "Show what an image changes"),
            "tree": Command("image_diff", "Show the layers of an image", function="tree"),
            "prune": Command("image_rm", "Remove images that nothing uses", function="prune"),
        },
    ),
    "snapshot": Command(
        "",
        "Keep the data of the project's volumes, and bring it back",
        group={
            "save": Command("snapshot", "Keep what the volumes have now", function="save"),
            "ls": Command("snapshot", "List snapshots", function="ls"),
            "list": Command("snapshot", "Same as ls", function="ls", hidden=True),
            "restore": Command("snapshot", "Let the volumes have what a snapshot kept", function="restore"),
            "rm": Command("snapshot", "Remove snapshots", function="remove"),
            "diff": Command("snapshot", "Show which files differ from a snapshot's", function="diff"),
            "export": Command("snapshot_archive", "Write a snapshot to an archive", function="export"),
            "import": Command("snapshot_archive", "Make a snapshot of an archive", function="load"),
        },
    ),
    "undo": Command("snapshot", "Bring back the data that was removed or replaced last", function="undo"),
    "volumes": Command("volume_ls", "List the volumes of the project", function="of_project"),
    "volume": Command(
        "",
        "Manage volumes of all projects",
        group={
            "ls": Command("volume_ls", "List volumes"),
            "list": Command("volume_ls", "Same as ls", hidden=True),
            "inspect": Command("volume_ls", "Show all about volumes", function="inspect"),
            "create": Command("volume_change", "Create a volume of no project", function="create"),
            "rm": Command("volume_change", "Remove volumes with their data", function="remove"),
            "prune": Command("volume_change", "Remove anonymous volumes that nothing uses", function="prune"),
            "export": Command("volume_archive", "Write what is in a volume to an archive", function="export"),
            "import": Command("volume_archive", "Unpack an archive into a volume", function="load"),
            "clone": Command("volume_archive", "Make a new volume with what another has", function="clone"),
        },
    ),
    "container": Command(
        "",
        "Manage containers of all projects",
        group={
            "ls": Command("container_ls", "List containers"),
            "list": Command("container_ls", "Same as ls", hidden=True),
            "ps": Command("container_ls", "Same as ls", hidden=True),
            "inspect": Command("container_inspect", "Show all about containers"),
            "attach": Command("attach", "Join a container's terminal or standard streams", function="by_name"),
            "diff": Command("container_diff", "Show which files a container has changed"),
            "cp": Command("container_cp", "Copy files between a container and this machine"),
            "export": Command("container_export", "Write a container's files to a tar archive", function="by_name"),
            "commit": Command("container_commit", "Make an image of what a container has changed", function="by_name"),
            "rename": Command("container_rename", "Rename a container"),
            "rm": Command("container_rm", "Remove containers"),
            "prune": Command("container_rm", "Remove all containers that don't run", function="prune"),
        },
    ),
    "network": Command(
        "",
        "Manage networks of all projects",
        group={
            "ls": Command("network_ls", "List networks"),
            "list": Command("network_ls", "Same as ls", hidden=True),
            "inspect": Command("network_inspect", "Show all about networks"),
            "create": Command("network_create", "Create a network for several projects"),
            "rm": Command("network_rm", "Remove networks"),
            "remove": Command("network_rm", "Same as rm", hidden=True),
            "connect": Command("network_connect", "Connect a container to a network"),
            "disconnect": Command("network_connect", "Disconnect a container from a network", function="disconnect"),
            "prune": Command("network_rm", "Remove all networks that no container is in", function="prune"),
        },
    ),
    "system": Command(
        "",
        "Show and get back what devenv takes on the disk",
        group={
            "df": Command("system", "Show what is taken on the disk", function="df"),
            "prune": Command("system", "Remove what is not used", function="prune"),
        },
    ),
    "registry": Command(
        "",
        "Log in to registries, and run one",
        group={
            "login": Command("registry_login", "Log in to a registry"),
            "logout": Command("registry_login", "Forget a login", function="logout"),
            "serve": Command("registry_serve", "Run a registry for the local network"),
            "ls": Command("registry_ls", "List the registries that are served from here"),
            "stop": Command("registry_ls", "Stop a registry", function="stop"),
        },
    ),
    "proxy": Command(
        "",
        "Reach services as https://SERVICE.PROJECT.localhost",
        group={
            "start": Command("proxy", "Run the proxy", function="start"),
            "stop": Command("proxy", "Stop the proxy", function="stop"),
            "ls": Command("proxy", "List what is reached through the proxy, and where", function="ls"),
            "list": Command("proxy", "Same as ls", function="ls", hidden=True),
            "status": Command("proxy", "Show whether it runs, and who trusts its certificates", function="status"),
            "trust": Command("proxy", "Have this machine trust its certificates", function="trust_command"),
            "untrust": Command("proxy", "Undo `trust`", function="untrust_command"),
        },
    ),
    "config": Command("config", "Check the spec and print it as devenv understands it"),
    "convert": Command("config", "Same as config", hidden=True),
    "plan": Command("plan", "Print what `up` would do, and why"),
    "why": Command("why", "Say why a service was made anew, why it waits or why it died"),
    "timings": Command("timings", "Show what the last start took, and its critical path"),
    "graph": Command("graph", "Print what depends on what"),
    "doctor": Command("doctor", "Show what this machine gives and lacks"),
    "task": Command("task", "Run one of the project's tasks, or list them", positional=True),
    "ci": Command(
        "ci", "Bring everything up, run a command, keep what tells of it, and take everything down", positional=True
    ),
    "init": Command("init", "Begin a project from a template"),
    "completion": Command("completion", "Print a script that completes commands in bash, zsh or fish"),
    "help": Command("man", "Show the help of a command", function="show"),
    "man": Command("man", "Show the manual page of a command, or install those of all"),
    "__complete": Command("completion", "What could come next", function="complete", positional=True, hidden=True),
    "version": Command("version", "Print the version"),
}

# Commands of docker compose that are not built yet, and what does the job meanwhile.
MISSING: dict[str, str] = {
    "bridge": "",
    "publish": "",
}
