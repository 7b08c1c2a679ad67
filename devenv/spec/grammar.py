"""What may be written: every attribute of the Compose Specification, its type, and a line on what it is for.

Data only. ``shape`` checks values against it and ``schema`` writes it as JSON Schema, so the two can't disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from devenv.spec import readiness

# Compose would also take names of dots alone, which are folders.
NAME = r"^(?!\.+$)[a-zA-Z0-9._-]+$"


@dataclass(frozen=True, slots=True)
class Scalar:
    types: tuple[str, ...]  # JSON types
    choices: tuple[str, ...] = ()
    pattern: str = ""
    lowest: int | None = None
    highest: int | None = None
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    item: Any
    unique: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Object:
    """A mapping: fixed ``fields``, or free names that match ``names`` with one kind of value."""

    fields: dict[str, Any] = field(default_factory=dict)
    names: str = ""
    values: Any = None
    required: tuple[str, ...] = ()
    extensions: bool = True  # whether `x-…` is allowed
    nullable: bool = False
    open: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Either:
    """One of several, told apart by the JSON type."""

    options: tuple[Any, ...]
    doc: str = ""


ANY: Any = None

STRING = Scalar(("string",))
BOOLEAN = Scalar(("boolean", "string"))
INTEGER = Scalar(("integer", "string"))
NUMBER = Scalar(("number", "string"))
NULL = Scalar(("null",))
STRINGS = Items(STRING)
UNIQUE = Items(STRING, unique=True)
TEXT_OR_LIST = Either((STRING, UNIQUE))
OPTIONS = Object(names=".+", values=Scalar(("string", "number")), extensions=False)
LIST_OR_DICT = Either(
    (Object(names=".+", values=Scalar(("string", "number", "boolean", "null")), extensions=False), UNIQUE)
)
EXTRA_HOSTS = Either((Object(names=".+", values=Either((STRING, STRINGS)), extensions=False), UNIQUE))
COMMAND = Either((NULL, STRING, STRINGS))


def choice(*names: str, doc: str = "") -> Scalar:
    return Scalar(("string",), choices=names, doc=doc)


def either(*options: Any, doc: str = "") -> Either:
    return Either(options, doc=doc)


_HOOK_FIELDS: dict[str, Any] = {
    "command": COMMAND,
    "user": STRING,
    "privileged": BOOLEAN,
    "working_dir": STRING,
    "environment": LIST_OR_DICT,
}
HOOK = Object(_HOOK_FIELDS, required=("command",))
PRE_START = Object({**_HOOK_FIELDS, "image": STRING, "per_replica": BOOLEAN})
FILE_MOUNTS = Items(
    either(STRING, Object({"source": STRING, "target": STRING, "uid": STRING, "gid": STRING, "mode": NUMBER}))
)
ULIMITS = Object(
    names="^[a-z]+$",
    values=either(INTEGER, Object({"soft": INTEGER, "hard": INTEGER}, required=("soft", "hard"))),
    extensions=False,
)
_DEVICE_FIELDS: dict[str, Any] = {
    "capabilities": UNIQUE,
    "count": Scalar(("string", "integer")),
    "device_ids": UNIQUE,
    "driver": STRING,
    "options": LIST_OR_DICT,
}
DEVICES = Items(Object(_DEVICE_FIELDS, required=("capabilities",)))
GPUS = either(choice("all"), Items(Object(_DEVICE_FIELDS)))
EXTERNAL = either(Scalar(("boolean", "string")), Object({"name": STRING}))
IPAM = Object(
    {
        "driver": STRING,
        "config": Items(
            Object(
                {
                    "subnet": STRING,
                    "ip_range": STRING,
                    "gateway": STRING,
                    "aux_addresses": Object(names=".+", values=STRING, extensions=False),
                }
            )
        ),
        "options": Object(names=".+", values=STRING, extensions=False),
    }
)
BUILD = either(
    STRING,
    Object(
        {
            "context": STRING,
            "dockerfile": STRING,
            "dockerfile_inline": STRING,
            "entitlements": STRINGS,
            "args": LIST_OR_DICT,
            "ssh": LIST_OR_DICT,
            "labels": LIST_OR_DICT,
            "cache_from": STRINGS,
            "cache_to": STRINGS,
            "no_cache": BOOLEAN,
            "no_cache_filter": TEXT_OR_LIST,
            "additional_contexts": LIST_OR_DICT,
            "network": STRING,
            "provenance": BOOLEAN,
            "sbom": BOOLEAN,
            "pull": BOOLEAN,
            "target": STRING,
            "shm_size": INTEGER,
            "extra_hosts": EXTRA_HOSTS,
            "isolation": STRING,
            "privileged": BOOLEAN,
            "secrets": FILE_MOUNTS,
            "tags": STRINGS,
            "ulimits": ULIMITS,
            "platforms": STRINGS,
        }
    ),
    doc="How to build the image: the folder, or what a build takes",
)
_LIMITS = Items(Object({"path": STRING, "rate": INTEGER}, extensions=False))
BLKIO = Object(
    {
        "device_read_bps": _LIMITS,
        "device_read_iops": _LIMITS,
        "device_write_bps": _LIMITS,
        "device_write_iops": _LIMITS,
        "weight": INTEGER,
        "weight_device": Items(Object({"path": STRING, "weight": INTEGER}, extensions=False)),
    },
    extensions=False,
)
DEPENDS_ON = either(
    UNIQUE,
    Object(
        names=NAME,
        values=Object(
            {
                "restart": BOOLEAN,
                "required": Scalar(("boolean",)),
                "condition": choice("service_started", "service_healthy", "service_completed_successfully"),
            },
            required=("condition",),
        ),
        extensions=False,
    ),
    doc="Services that come first, and what they must have reached",
)
ENV_FILE = either(
    STRING,
    Items(
        either(
            STRING,
            Object({"path": STRING, "format": STRING, "required": BOOLEAN}, required=("path",), extensions=False),
        )
    ),
)
HEALTHCHECK = Object(
    {
        "disable": BOOLEAN,
        "interval": STRING,
        "retries": NUMBER,
        "test": either(STRING, STRINGS),
        "timeout": STRING,
        "start_period": STRING,
        "start_interval": STRING,
    },
    doc="How to find out whether the service works",
)
NETWORKS = either(
    UNIQUE,
    Object(
        names=NAME,
        values=Object(
            {
                "aliases": UNIQUE,
                "interface_name": STRING,
                "ipv4_address": STRING,
                "ipv6_address": STRING,
                "link_local_ips": UNIQUE,
                "mac_address": STRING,
                "driver_opts": OPTIONS,
                "priority": Scalar(("number",)),
                "gw_priority": Scalar(("number",)),
            },
            nullable=True,
        ),
        extensions=False,
    ),
    doc="Networks that the service is on",
)
PORTS = Items(
    either(
        Scalar(("number",)),
        STRING,
        Object(
            {
                "name": STRING,
                "mode": STRING,
                "host_ip": STRING,
                "target": INTEGER,
                "published": INTEGER,
                "protocol": STRING,
                "app_protocol": STRING,
                "x-kernel": BOOLEAN,
            }
        ),
    ),
    unique=True,
    doc="Ports to publish on the host: HOST:CONTAINER",
)
VOLUMES = Items(
    either(
        STRING,
        Object(
            {
                "type": choice("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
                "source": STRING,
                "target": STRING,
                "read_only": BOOLEAN,
                "consistency": STRING,
                "bind": Object(
                    {
                        "propagation": STRING,
                        "create_host_path": BOOLEAN,
                        "recursive": choice("enabled", "disabled", "writable", "readonly"),
                        "selinux": choice("z", "Z"),
                        "x-idmap": Scalar(("boolean", "integer", "string")),
                    }
                ),
                "volume": Object({"labels": LIST_OR_DICT, "nocopy": BOOLEAN, "subpath": STRING}),
                "tmpfs": Object({"size": Scalar(("integer", "string"), lowest=0), "mode": NUMBER}),
                "image": Object({"subpath": STRING}),
            },
            required=("type",),
        ),
    ),
    unique=True,
    doc="Folders, named volumes and tmpfs to mount: SOURCE:TARGET[:ro]",
)
_UPDATE = Object(
    {
        "parallelism": INTEGER,
        "delay": STRING,
        "failure_action": STRING,
        "monitor": STRING,
        "max_failure_ratio": NUMBER,
        "order": choice("start-first", "stop-first"),
    }
)
DEPLOY = Object(
    {
        "mode": STRING,
        "endpoint_mode": STRING,
        "replicas": INTEGER,
        "labels": LIST_OR_DICT,
        "rollback_config": _UPDATE,
        "update_config": _UPDATE,
        "resources": Object(
            {
                "limits": Object({"cpus": NUMBER, "memory": STRING, "pids": INTEGER}),
                "reservations": Object(
                    {
                        "cpus": NUMBER,
                        "memory": STRING,
                        "generic_resources": Items(
                            Object({"discrete_resource_spec": Object({"kind": STRING, "value": NUMBER})})
                        ),
                        "devices": DEVICES,
                    }
                ),
            }
        ),
        "restart_policy": Object({"condition": STRING, "delay": STRING, "max_attempts": INTEGER, "window": STRING}),
        "placement": Object(
            {
                "constraints": STRINGS,
                "preferences": Items(Object({"spread": STRING})),
                "max_replicas_per_node": INTEGER,
            }
        ),
    },
    nullable=True,
    doc="How many, with which limits, and how to replace and restart them",
)
DEVELOP = Object(
    {
        "watch": Items(
            Object(
                {
                    "ignore": TEXT_OR_LIST,
                    "include": TEXT_OR_LIST,
                    "path": STRING,
                    "action": choice("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
                    "target": STRING,
                    "exec": HOOK,
                    "initial_sync": Scalar(("boolean",)),
                    # devenv's own, also in `x-devenv:` of the rule.
                    "pull": TEXT_OR_LIST,
                },
                required=("path", "action"),
            )
        )
    },
    nullable=True,
    doc="What to do when source files change",
)
# devenv's own. Compose refuses unknown names, so `x-devenv:` may hold them where other tools read the file too.
_READY_PORT = either(INTEGER, Scalar(("boolean",)), Object({"host": STRING, "port": INTEGER}))
READY = either(
    STRING,
    Object(
        {
            "listen": Scalar(("boolean",)),
            "tcp": _READY_PORT,
            "http": either(STRING, Object({"url": STRING, "path": STRING, "port": INTEGER, "status": INTEGER})),
            "log": STRING,
            "exec": COMMAND,
            **dict.fromkeys((*readiness.PROTOCOLS, *readiness.ALIASES), _READY_PORT),
            **dict.fromkeys(readiness.TIMES, STRING),
            "retries": INTEGER,
            "restart": Scalar(("boolean",)),
        }
    ),
    doc="devenv: when the service counts as ready",
)
PROXY = either(
    INTEGER,
    Scalar(("boolean",)),
    Object({"port": INTEGER, "host": STRING}),
    doc="devenv: the port that `devenv proxy` leads to, and under which name",
)
ONCE = either(
    Scalar(("boolean",)),
    Object({"inputs": STRINGS}, required=("inputs",)),
    doc="devenv: whether it is a job that is done once, and again when its image, configuration or files change",
)
PORT_CHOICE = choice(
    "strict", "auto", doc="devenv: whether a host port that is taken is replaced by one for this folder"
)
SEED = Scalar(("string",), doc="devenv: an archive of `devenv snapshot export`, for volumes that are made")
TASKS = Object(
    names=NAME,
    values=either(
        STRING,
        STRINGS,
        Object(
            {
                "command": COMMAND,
                "service": STRING,
                "description": STRING,
                "depends_on": TEXT_OR_LIST,
                "environment": LIST_OR_DICT,
                "working_dir": STRING,
                "inputs": TEXT_OR_LIST,
                "outputs": TEXT_OR_LIST,
            }
        ),
    ),
    extensions=False,
    doc="devenv: commands of the project, by name",
)
_RANGE = 1000

SERVICE = Object(
    {
        "develop": DEVELOP,
        "deploy": DEPLOY,
        "annotations": LIST_OR_DICT,
        "attach": BOOLEAN,
        "build": BUILD,
        "blkio_config": BLKIO,
        "cap_add": UNIQUE,
        "cap_drop": UNIQUE,
        "cgroup": choice("host", "private"),
        "cgroup_parent": STRING,
        "command": COMMAND,
        "configs": FILE_MOUNTS,
        "container_name": Scalar(("string",), pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$"),
        "cpu_count": Scalar(("string", "integer"), lowest=0),
        "cpu_percent": Scalar(("string", "integer"), lowest=0, highest=100),
        "cpu_shares": NUMBER,
        "cpu_quota": NUMBER,
        "cpu_period": NUMBER,
        "cpu_rt_period": NUMBER,
        "cpu_rt_runtime": NUMBER,
        "cpus": NUMBER,
        "cpuset": STRING,
        "credential_spec": Object({"config": STRING, "file": STRING, "registry": STRING}),
        "depends_on": DEPENDS_ON,
        "device_cgroup_rules": UNIQUE,
        "devices": Items(
            either(
                STRING,
                Object({"source": STRING, "target": STRING, "permissions": STRING}, required=("source",)),
            )
        ),
        "dns": TEXT_OR_LIST,
        "dns_opt": UNIQUE,
        "dns_search": TEXT_OR_LIST,
        "domainname": STRING,
        "entrypoint": COMMAND,
        "env_file": ENV_FILE,
        "label_file": either(STRING, STRINGS),
        "environment": LIST_OR_DICT,
        "expose": Items(Scalar(("string", "number")), unique=True),
        "extends": either(STRING, Object({"service": STRING, "file": STRING}, required=("service",), extensions=False)),
        "provider": Object(
            {
                "type": STRING,
                "options": Object(
                    names=".+",
                    values=either(
                        Scalar(("string", "number", "boolean")),
                        Items(Scalar(("string", "number", "boolean"))),
                    ),
                    extensions=False,
                ),
            },
            required=("type",),
        ),
        "external_links": UNIQUE,
        "extra_hosts": EXTRA_HOSTS,
        "gpus": GPUS,
        "group_add": Items(Scalar(("string", "number")), unique=True),
        "healthcheck": HEALTHCHECK,
        "hostname": STRING,
        "image": Scalar(("string",), doc="What the service runs from"),
        "init": BOOLEAN,
        "ipc": STRING,
        "isolation": STRING,
        "labels": LIST_OR_DICT,
        "links": UNIQUE,
        "logging": Object(
            {
                "driver": STRING,
                "options": Object(names=".+", values=Scalar(("string", "number", "null")), extensions=False),
            }
        ),
        "mac_address": STRING,
        "mem_limit": NUMBER,
        "mem_reservation": INTEGER,
        "mem_swappiness": INTEGER,
        "memswap_limit": NUMBER,
        "network_mode": STRING,
        "models": either(
            UNIQUE,
            Object(
                names=NAME,
                values=Object({"endpoint_var": STRING, "model_var": STRING}, nullable=True),
                extensions=False,
            ),
        ),
        "networks": NETWORKS,
        "oom_kill_disable": BOOLEAN,
        "oom_score_adj": Scalar(("string", "integer"), lowest=-_RANGE, highest=_RANGE),
        "pid": Scalar(("string", "null")),
        "pids_limit": NUMBER,
        "platform": STRING,
        "ports": PORTS,
        "pre_start": Items(PRE_START),
        "post_start": Items(HOOK),
        "pre_stop": Items(HOOK),
        "privileged": BOOLEAN,
        "profiles": UNIQUE,
        "pull_policy": Scalar(
            ("string",),
            pattern=r"^(always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+)$",
        ),
        "pull_refresh_after": STRING,
        "read_only": BOOLEAN,
        "restart": STRING,
        "runtime": STRING,
        "scale": INTEGER,
        "security_opt": UNIQUE,
        "shm_size": NUMBER,
        "secrets": FILE_MOUNTS,
        "sysctls": LIST_OR_DICT,
        "stdin_open": BOOLEAN,
        "stop_grace_period": STRING,
        "stop_signal": STRING,
        "storage_opt": Object(open=True),
        "tmpfs": TEXT_OR_LIST,
        "tty": BOOLEAN,
        "ulimits": ULIMITS,
        "use_api_socket": Scalar(("boolean",)),
        "user": STRING,
        "uts": STRING,
        "userns_mode": STRING,
        "volumes": VOLUMES,
        "volumes_from": UNIQUE,
        "working_dir": STRING,
        "ready": READY,
        "proxy": PROXY,
        "once": ONCE,
        "x-devenv": Object(
            {"ready": READY, "proxy": PROXY, "once": ONCE},
            doc="devenv's own attributes, where other tools read the file too",
        ),
    }
)
NETWORK = Object(
    {
        "name": STRING,
        "driver": STRING,
        "driver_opts": OPTIONS,
        "ipam": IPAM,
        "external": EXTERNAL,
        "internal": BOOLEAN,
        "enable_ipv4": BOOLEAN,
        "enable_ipv6": BOOLEAN,
        "attachable": BOOLEAN,
        "labels": LIST_OR_DICT,
    },
    nullable=True,
)
VOLUME = Object(
    {"name": STRING, "driver": STRING, "driver_opts": OPTIONS, "external": EXTERNAL, "labels": LIST_OR_DICT},
    nullable=True,
)
_FILE_OBJECT: dict[str, Any] = {
    "name": STRING,
    "environment": STRING,
    "file": STRING,
    "external": EXTERNAL,
    "labels": LIST_OR_DICT,
    "template_driver": STRING,
    "x-devenv": Object({"command": COMMAND}, doc="A command whose output is the content, in place of a file"),
}
SECRET = Object({**_FILE_OBJECT, "driver": STRING, "driver_opts": OPTIONS})
CONFIG = Object({**_FILE_OBJECT, "content": STRING})
MODEL = Object(
    {"name": STRING, "model": STRING, "context_size": Scalar(("integer",)), "runtime_flags": STRINGS},
    required=("model",),
)
INCLUDE = either(
    STRING,
    Object({"path": TEXT_OR_LIST, "env_file": TEXT_OR_LIST, "project_directory": STRING}, extensions=False),
)


def _named(values: Any, doc: str) -> Object:
    return Object(names=NAME, values=values, extensions=False, doc=doc)


SPEC = Object(
    {
        "version": Scalar(("string",), doc="Obsolete, and ignored"),
        "name": Scalar(("string",), doc="The project's name; by default the folder's"),
        "include": Items(INCLUDE, doc="Other spec files that are part of this one"),
        "services": _named(SERVICE, "What runs, by name"),
        "models": _named(MODEL, "AI models that services use"),
        "networks": _named(NETWORK, "Networks that services are on"),
        "volumes": _named(VOLUME, "Named volumes"),
        "secrets": _named(SECRET, "Files with something secret"),
        "configs": _named(CONFIG, "Files to mount into services"),
        "tasks": TASKS,
        "ports": PORT_CHOICE,
        "seed": SEED,
        "x-devenv": Object(
            {"tasks": TASKS, "ports": PORT_CHOICE, "seed": SEED},
            doc="devenv's own attributes, where other tools read the file too",
        ),
    }
)
