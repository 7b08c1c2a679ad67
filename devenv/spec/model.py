"""The project as objects: what the planner and whoever converts a service read.

Made of the canonical form, whose attributes have one type each, so `Project.model_validate(canonical)` is a check and
little work. Attributes that nothing reads one by one so far stay plain values: each model class costs a
millisecond at import. Unknown attributes are refused, `x-…` excepted.
"""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from devenv.spec import scalars

Value = Any
Options = dict[str, str]


class Model(pydantic.BaseModel):
    # An unknown attribute is let through here and looked at below, since `x-…` is fine.
    model_config = pydantic.ConfigDict(extra="allow", frozen=False)

    @pydantic.model_validator(mode="after")
    def _no_unknown(self) -> Model:
        for name in self.__pydantic_extra__ or ():
            if not name.startswith("x-"):
                raise ValueError(f"there is no attribute `{name}`")
        return self


class Dependency(Model):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"] = "service_started"
    required: bool = True
    restart: bool = False


class Healthcheck(Model):
    test: list[str] | None = None
    interval: str | None = None
    timeout: str | None = None
    start_period: str | None = None
    start_interval: str | None = None
    retries: int | None = None
    disable: bool = False

    def seconds(self, name: Literal["interval", "timeout", "start_period", "start_interval"]) -> float | None:
        """A time in seconds, or None when the file says nothing."""
        value = getattr(self, name)
        return None if value is None else scalars.seconds(value)


class Port(Model):
    target: int = 0
    published: str | None = None
    host_ip: str | None = None
    protocol: str = "tcp"
    mode: str = "ingress"
    name: str | None = None
    app_protocol: str | None = None


class Mount(Model):
    type: str
    source: str | None = None
    target: str = ""
    read_only: bool = False
    consistency: str | None = None
    bind: dict[str, Value] | None = None
    volume: dict[str, Value] | None = None
    tmpfs: dict[str, Value] | None = None
    image: dict[str, Value] | None = None


class FileMount(Model):
    """A config or a secret where a service uses it."""

    source: str = ""
    target: str | None = None
    uid: str | None = None
    gid: str | None = None
    mode: str | None = None


class Attachment(Model):
    """A network where a service uses it."""

    aliases: list[str] = []
    interface_name: str | None = None
    ipv4_address: str | None = None
    ipv6_address: str | None = None
    link_local_ips: list[str] = []
    mac_address: str | None = None
    driver_opts: Options = {}
    priority: int = 0
    gw_priority: int = 0


class Service(Model):
    annotations: Options | None = None
    attach: bool | None = None
    blkio_config: dict[str, Value] | None = None
    build: dict[str, Value] | None = None
    cap_add: list[str] = []
    cap_drop: list[str] = []
    cgroup: str | None = None
    cgroup_parent: str | None = None
    command: list[str] | None = None
    configs: list[FileMount] = []
    container_name: str | None = None
    cpu_count: int | None = None
    cpu_percent: float | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpu_shares: int | None = None
    cpus: float | None = None
    cpuset: str | None = None
    credential_spec: Options | None = None
    depends_on: dict[str, Dependency] = {}
    deploy: dict[str, Value] | None = None
    develop: dict[str, Value] | None = None
    device_cgroup_rules: list[str] = []
    devices: list[Options] = []
    dns: list[str] = []
    dns_opt: list[str] = []
    dns_search: list[str] = []
    domainname: str | None = None
    entrypoint: list[str] | None = None
    env_file: list[dict[str, Value]] = []
    environment: dict[str, str | None] = {}
    expose: list[str] = []
    external_links: list[str] = []
    extra_hosts: list[str] = []
    gpus: list[dict[str, Value]] = []
    group_add: list[str] = []
    healthcheck: Healthcheck | None = None
    hostname: str | None = None
    image: str | None = None
    init: bool | None = None
    ipc: str | None = None
    isolation: str | None = None
    label_file: list[str] = []
    labels: Options = {}
    links: list[str] = []
    logging: dict[str, Value] | None = None
    mac_address: str | None = None
    mem_limit: str | None = None
    mem_reservation: str | None = None
    mem_swappiness: str | None = None
    memswap_limit: str | None = None
    models: dict[str, Options | None] | None = None
    network_mode: str | None = None
    networks: dict[str, Attachment | None] | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    pid: str | None = None
    pids_limit: int | None = None
    platform: str | None = None
    ports: list[Port] = []
    post_start: list[dict[str, Value]] = []
    pre_start: list[dict[str, Value]] = []
    pre_stop: list[dict[str, Value]] = []
    privileged: bool = False
    profiles: list[str] = []
    provider: dict[str, Value] | None = None
    pull_policy: str | None = None
    read_only: bool = False
    restart: str | None = None
    runtime: str | None = None
    scale: int | None = None
    secrets: list[FileMount] = []
    security_opt: list[str] = []
    shm_size: str | None = None
    stdin_open: bool = False
    stop_grace_period: str | None = None
    stop_signal: str | None = None
    storage_opt: Options | None = None
    sysctls: Options = {}
    tmpfs: list[str] = []
    tty: bool = False
    ulimits: dict[str, int | dict[str, int]] = {}
    use_api_socket: bool = False
    user: str | None = None
    userns_mode: str | None = None
    uts: str | None = None
    volumes: list[Mount] = []
    volumes_from: list[str] = []
    working_dir: str | None = None
    ready: Value = None
    proxy: Value = None
    once: Value = None

    def replicas(self) -> int:
        """How many containers there are to be."""
        if self.scale is not None:
            return self.scale
        given = (self.deploy or {}).get("replicas")
        return 1 if given is None else int(given)

    def grace_seconds(self) -> float:
        """Between the stop signal and the kill; Compose's default is 10 s."""
        return 10.0 if self.stop_grace_period is None else scalars.seconds(self.stop_grace_period)


class Network(Model):
    name: str = ""
    driver: str | None = None
    driver_opts: Options = {}
    ipam: dict[str, Value] = {}
    external: bool = False
    internal: bool = False
    attachable: bool = False
    labels: Options = {}
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None


class Volume(Model):
    name: str = ""
    driver: str | None = None
    driver_opts: Options = {}
    external: bool = False
    labels: Options = {}


class FileObject(Model):
    """A config or a secret. ``content`` is there when the file has it, or a variable of the caller's did."""

    name: str = ""
    file: str | None = None
    environment: str | None = None
    content: str | None = None
    external: bool = False
    labels: Options = {}
    driver: str | None = None
    driver_opts: Options = {}
    template_driver: str | None = None


class Project(Model):
    name: str
    working_dir: str = ""
    services: dict[str, Service] = {}
    networks: dict[str, Network] = {}
    volumes: dict[str, Volume] = {}
    secrets: dict[str, FileObject] = {}
    configs: dict[str, FileObject] = {}
    models: dict[str, dict[str, Value]] = {}
    tasks: dict[str, Value] = {}
    ports: str = "strict"
    seed: str = ""
    disabled_services: list[str] = []  # those of profiles that are not enabled
