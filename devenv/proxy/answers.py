"""What is said where no service answers: an index, or what is wrong and what to do about it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

from devenv.proxy import pages, routes


class Answer(NamedTuple):
    status: int
    page: pages.Page


def index(found: routes.Routes, url: Callable[[str], str]) -> Answer:
    """Of all projects, at `localhost` itself."""
    if not found.projects:
        return Answer(200, pages.Page("No project is up", ["`devenv up -d` in a project's folder starts one"]))
    links = []
    for project in found.projects:
        host = found.host_of(project)
        links.append(pages.Link(url(host), host, f"`{project.directory}`"))
    return Answer(200, pages.Page("devenv", links=links))


def project(
    found: routes.Routes,
    project: routes.Project,
    url: Callable[[str], str],
    runs: Callable[[routes.Service], bool],
) -> Answer:
    links = [
        link if runs(service) else link._replace(note=f"{link.note}, not running")
        for service, link in _services(found, project, url)
    ]
    return Answer(200, pages.Page(project.name, [f"`{project.directory}`"], links))


def _services(
    found: routes.Routes, project: routes.Project, url: Callable[[str], str]
) -> list[tuple[routes.Service, pages.Link]]:
    links = []
    for service in project.services:
        if service.port:
            host = found.host_of(project, service)
            links.append((service, pages.Link(url(host), host, f"`{service.name}`, port {service.port}")))
    return links


def unknown(found: routes.Routes, host: str, project: routes.Project | None, url: Callable[[str], str]) -> Answer:
    if project is None:
        hosts = [found.host_of(each) for each in found.projects]
        lines = ["These are up:"] if hosts else ["No project is up: `devenv up -d` in a project's folder starts one"]
        links = [pages.Link(url(each), each) for each in hosts]
        return Answer(404, pages.Page(f"No project is called `{host}`", lines, links))
    links = [link for _, link in _services(found, project, url)]
    lines = [f"`{project.name}` has these:"] if links else [f"No service of `{project.name}` speaks HTTP"]
    return Answer(404, pages.Page(f"No service is called `{host}`", lines, links))


def foreign(host: str) -> Answer:
    return Answer(421, pages.Page(f"`{host}` is not served here", ["devenv's proxy serves names below `localhost`"]))


def no_port(project: routes.Project, service: routes.Service) -> Answer:
    several = f": it has {_listed(service.ports)}" if service.ports else ""
    lines = [
        f"None of its ports is known to speak HTTP{several}",
        f"Name the one to use in the spec, `proxy: PORT` at `{service.name}`, and run {_command(project, 'up -d')}",
    ]
    return Answer(502, pages.Page(f"`{service.name}` of `{project.name}` has no port to lead to", lines))


def not_running(project: routes.Project, service: routes.Service, why: str) -> Answer:
    starts, tells = (_command(project, f"{words} {service.name}") for words in ("up -d", "logs"))
    lines = [why, f"{starts} starts it, {tells} says more"]
    return Answer(503, pages.Page(f"`{service.name}` of `{project.name}` is not running", lines))


def nobody_listens(project: routes.Project, service: routes.Service) -> Answer:
    lines = [
        f"It may still be starting: {_command(project, f'logs {service.name}')}",
        f"If it listens elsewhere, say so in the spec: `proxy: PORT` at `{service.name}`",
    ]
    title = f"Nothing listens on port {service.port} of `{service.name}` of `{project.name}`"
    return Answer(502, pages.Page(title, lines))


def broken(project: routes.Project, service: routes.Service, why: str) -> Answer:
    title = f"`{service.name}` of `{project.name}` gave no proper answer on port {service.port}"
    return Answer(502, pages.Page(title, [why, f"{_command(project, f'logs {service.name}')} may say more"]))


def _command(project: routes.Project, words: str) -> str:
    return f"`devenv --project-directory {shlex.quote(project.directory)} {words}`"


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(map(str, ports))
