"""The canonical form's tables: one row an attribute. How rows work is in ``canonical``."""

from __future__ import annotations

from typing import Any

from devenv.spec import canonical
from devenv.spec.canonical import Listed, Named, Table

_text, _flag, _strings, _mapping = canonical.text, canonical.flag, canonical.strings, canonical.mapping

_each = str.split

_HOOK: dict[str, Any] = {
    "command": canonical.command,
    "image": _text,
    "user": _text,
    "privileged": _flag,
    "working_dir": _text,
    "environment": canonical.environment,
    "per_replica": _flag,
}
HOOK = Table(_HOOK, always={"command": None})
FILE_MOUNT = Table({"source": _text, "target": _text, "uid": _text, "gid": _text, "mode": canonical.file_mode})
ULIMITS = Named(canonical.ulimit)
DEVICE = Table(
    {
        "capabilities": _strings,
        "driver": _text,
        "count": canonical.device_count,
        "device_ids": _strings,
        "options": _mapping,
    }
)
_LIMIT = Table({"path": _text, "rate": canonical.size_always}, always={"path": "", "rate": "0"})
_WEIGHT = Table({"path": _text, "weight": canonical.whole}, always={"path": "", "weight": 0})
BLKIO = Table(
    {
        "weight": canonical.whole,
        "weight_device": Listed(_WEIGHT),
        "device_read_bps": Listed(_LIMIT),
        "device_read_iops": Listed(_LIMIT),
        "device_write_bps": Listed(_LIMIT),
        "device_write_iops": Listed(_LIMIT),
    }
)
BUILD = Table(
    {
        **dict.fromkeys(_each("context dockerfile dockerfile_inline provenance sbom isolation network target"), _text),
        **dict.fromkeys(_each("entitlements cache_from cache_to no_cache_filter tags platforms"), _strings),
        **dict.fromkeys(("no_cache", "pull", "privileged"), _flag),
        "args": canonical.environment,
        "ssh": canonical.ssh,
        "labels": _mapping,
        "additional_contexts": _mapping,
        "extra_hosts": canonical.hosts,
        "secrets": Listed(FILE_MOUNT),
        "shm_size": canonical.size,
        "ulimits": ULIMITS,
    }
)
_UPDATE = Table(
    {
        "parallelism": canonical.counted,
        "delay": canonical.duration_or_not,
        "failure_action": _text,
        "monitor": canonical.duration_or_not,
        "max_failure_ratio": canonical.real,
        "order": _text,
    }
)
_RESOURCE = Table(
    {
        "cpus": canonical.real,
        "memory": canonical.size,
        "pids": canonical.whole,
        "devices": Listed(DEVICE),
        "generic_resources": Listed(
            Table(
                {
                    "discrete_resource_spec": Table(
                        {"kind": _text, "value": canonical.whole_given}, always={"kind": "", "value": 0}
                    )
                }
            )
        ),
    }
)
DEPLOY = Table(
    {
        "mode": _text,
        "replicas": canonical.whole_given,
        "labels": _mapping,
        "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "resources": Table({"limits": _RESOURCE, "reservations": _RESOURCE}),
        "restart_policy": Table(
            {
                "condition": _text,
                "delay": canonical.duration,
                "max_attempts": canonical.counted,
                "window": canonical.duration,
            }
        ),
        "placement": Table(
            {
                "constraints": _strings,
                "preferences": Listed(Table({"spread": _text})),
                "max_replicas_per_node": canonical.whole,
            }
        ),
        "endpoint_mode": _text,
    },
    always={"resources": {}, "placement": {}},
)
WATCH = Table(
    {
        "path": _text,
        "action": _text,
        "target": _text,
        "exec": HOOK,
        "include": _strings,
        "ignore": _strings,
        "initial_sync": _flag,
        "pull": _strings,
    },
    always={"path": "", "action": "", "exec": {"command": None}},
)
NETWORK_USE = Table(
    {
        **dict.fromkeys(_each("interface_name ipv4_address ipv6_address mac_address"), _text),
        "aliases": _strings,
        "driver_opts": _mapping,
        "gw_priority": canonical.whole,
        "link_local_ips": _strings,
        "priority": canonical.whole,
    }
)
PORT = Table(
    {
        **dict.fromkeys(_each("name mode host_ip published protocol app_protocol"), _text),
        "target": canonical.port,
        "x-kernel": _flag,
    }
)
MOUNT = Table(
    {
        **dict.fromkeys(_each("type source target consistency"), _text),
        "read_only": _flag,
        "bind": Table(
            {
                "selinux": _text,
                "propagation": _text,
                "create_host_path": canonical.opt_out,
                "recursive": _text,
                "x-idmap": canonical.flag_or_text,
            }
        ),
        "volume": Table({"labels": _mapping, "nocopy": _flag, "subpath": _text}),
        "tmpfs": Table({"size": canonical.size, "mode": canonical.tmpfs_mode}),
        "image": Table({"subpath": _text}),
    }
)
SERVICE = Table(
    {
        **dict.fromkeys(
            _each(
                "cgroup_parent cgroup cpuset container_name domainname hostname image ipc isolation mac_address "
                "network_mode pid platform pull_policy restart runtime stop_signal user userns_mode uts "
                "working_dir"
            ),
            _text,
        ),
        **dict.fromkeys(_each("oom_kill_disable privileged read_only stdin_open tty use_api_socket"), _flag),
        **dict.fromkeys(
            _each(
                "profiles cap_add cap_drop device_cgroup_rules dns dns_opt dns_search expose external_links group_add "
                "label_file links security_opt tmpfs volumes_from"
            ),
            _strings,
        ),
        **dict.fromkeys(
            _each("cpu_count cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares oom_score_adj pids_limit"),
            canonical.whole,
        ),
        **dict.fromkeys(_each("mem_limit mem_reservation memswap_limit shm_size"), canonical.size),
        "mem_swappiness": canonical.size_given,
        **dict.fromkeys(("annotations", "labels", "sysctls", "storage_opt"), _mapping),
        **dict.fromkeys(("pre_start", "post_start", "pre_stop"), Listed(HOOK)),
        **dict.fromkeys(("cpus", "cpu_percent"), canonical.real),
        **dict.fromkeys(("attach", "init"), canonical.flag_or_not),
        **dict.fromkeys(("command", "entrypoint"), canonical.command),
        "build": BUILD,
        "develop": Table({"watch": Listed(WATCH)}),
        "blkio_config": BLKIO,
        "configs": Listed(FILE_MOUNT),
        "secrets": Listed(FILE_MOUNT),
        "credential_spec": Table({"config": _text, "file": _text, "registry": _text}),
        "depends_on": Named(
            Table({"condition": _text, "restart": _flag, "required": canonical.flag_or_not}, always={"required": False})
        ),
        "deploy": DEPLOY,
        "devices": Listed(Table({"source": _text, "target": _text, "permissions": _text})),
        "provider": Table({"type": _text, "options": canonical.multi_options}),
        "environment": canonical.environment,
        "env_file": Listed(Table({"path": _text, "required": canonical.opt_out, "format": _text})),
        "extra_hosts": canonical.hosts,
        "gpus": Listed(DEVICE),
        "healthcheck": Table(
            {
                "test": canonical.health_test,
                "timeout": canonical.duration,
                "interval": canonical.duration,
                "retries": canonical.counted,
                "start_period": canonical.duration,
                "start_interval": canonical.duration,
                "disable": _flag,
            }
        ),
        "logging": Table({"driver": _text, "options": _mapping}),
        "models": Named(Table({"endpoint_var": _text, "model_var": _text})),
        "networks": Named(NETWORK_USE),
        "ports": Listed(PORT),
        "scale": canonical.whole_given,
        "stop_grace_period": canonical.duration,
        "ulimits": ULIMITS,
        "volumes": Listed(MOUNT),
        "ready": canonical.anything,
        "proxy": canonical.anything,
        "once": canonical.anything,
    },
    always={"command": None, "entrypoint": None},
)
NETWORK = Table(
    {
        "name": _text,
        "driver": _text,
        "driver_opts": _mapping,
        "ipam": Table(
            {
                "driver": _text,
                "config": Listed(
                    Table({"subnet": _text, "gateway": _text, "ip_range": _text, "aux_addresses": _mapping})
                ),
                "options": _mapping,
            }
        ),
        "external": _flag,
        "internal": _flag,
        "attachable": _flag,
        "labels": _mapping,
        "enable_ipv4": canonical.flag_or_not,
        "enable_ipv6": canonical.flag_or_not,
    },
    always={"ipam": {}},
)
VOLUME = Table({"name": _text, "driver": _text, "driver_opts": _mapping, "external": _flag, "labels": _mapping})
FILE_OBJECT = Table(
    {
        **dict.fromkeys(_each("name file environment content driver template_driver"), _text),
        "external": _flag,
        "labels": _mapping,
        "driver_opts": _mapping,
    }
)
MODEL = Table({"name": _text, "model": _text, "context_size": canonical.whole, "runtime_flags": _strings})
SECTIONS: dict[str, Table] = {
    "networks": NETWORK,
    "volumes": VOLUME,
    "secrets": FILE_OBJECT,
    "configs": FILE_OBJECT,
    "models": MODEL,
}
