"""The grammar as JSON Schema 2020-12, for editors; `docs/devenv.schema.json` is what this prints."""

from __future__ import annotations

import json
from typing import Any

from devenv.spec import grammar

_NAMED = {
    "service": grammar.SERVICE,
    "network": grammar.NETWORK,
    "volume": grammar.VOLUME,
    "secret": grammar.SECRET,
    "config": grammar.CONFIG,
    "model": grammar.MODEL,
    "build": grammar.BUILD,
    "deploy": grammar.DEPLOY,
    "develop": grammar.DEVELOP,
    "healthcheck": grammar.HEALTHCHECK,
    "include": grammar.INCLUDE,
    "hook": grammar.HOOK,
    "pre_start_hook": grammar.PRE_START,
    "command": grammar.COMMAND,
    "list_or_dict": grammar.LIST_OR_DICT,
    "text_or_list": grammar.TEXT_OR_LIST,
    "unique_strings": grammar.UNIQUE,
    "extra_hosts": grammar.EXTRA_HOSTS,
    "file_mounts": grammar.FILE_MOUNTS,
    "ulimits": grammar.ULIMITS,
    "ready": grammar.READY,
    "proxy": grammar.PROXY,
    "once": grammar.ONCE,
    "tasks": grammar.TASKS,
}
_REFERENCES = {id(node): name for name, node in _NAMED.items()}


def schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://raw.githubusercontent.com/devenv-up/devenv/main/docs/devenv.schema.json",
        "title": "devenv.yaml",
        "description": "The Compose Specification, with devenv's additions",
        **_node(grammar.SPEC),
        "$defs": {name: _node(node) for name, node in _NAMED.items()},
    }


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def _part(node: Any) -> dict[str, Any]:
    name = _REFERENCES.get(id(node))
    return _node(node) if name is None else {"$ref": f"#/$defs/{name}"}


def _node(node: Any) -> dict[str, Any]:
    if isinstance(node, grammar.Scalar):
        made = _scalar(node)
    elif isinstance(node, grammar.Items):
        made = {"type": "array", "items": _part(node.item)}
        if node.unique:
            made["uniqueItems"] = True
    elif isinstance(node, grammar.Object):
        made = _object(node)
    else:
        # The options differ in their JSON type, so at most one of them fits.
        made = {"anyOf": [_part(option) for option in node.options]}
    return {"description": node.doc, **made} if node.doc else made


def _scalar(node: grammar.Scalar) -> dict[str, Any]:
    made: dict[str, Any] = {"type": node.types[0] if len(node.types) == 1 else list(node.types)}
    if node.choices:
        made["enum"] = list(node.choices)
    if node.pattern:
        # A variable may stand for anything.
        made["pattern"] = rf"{node.pattern}|\$"
    if node.lowest is not None:
        made["minimum"] = node.lowest
    if node.highest is not None:
        made["maximum"] = node.highest
    return made


def _object(node: grammar.Object) -> dict[str, Any]:
    made: dict[str, Any] = {"type": ["object", "null"] if node.nullable else "object"}
    if node.fields:
        made["properties"] = {name: _part(value) for name, value in node.fields.items()}
    patterns: dict[str, Any] = {}
    if node.values is not None:
        patterns[node.names or ".+"] = _part(node.values)
    if node.extensions:
        patterns["^x-"] = {}
    if patterns:
        made["patternProperties"] = patterns
    if node.required:
        made["required"] = list(node.required)
    if not node.open:
        made["additionalProperties"] = False
    return made
