"""What the rules ask besides a Dockerfile's text, as far as this machine knows it: nothing is pulled for a check.

An image's environment is that of the store, if it is there; what is ignored stands beside the context. BuildKit looks
for ignored files only where no pattern takes anything back, since the rest can't be told without the files.
"""

from __future__ import annotations

from collections.abc import Callable

from devenv import errors
from devenv.build import ignore, request, scope
from devenv.build.dockerfile import checks, instructions, malformed, rules
from devenv.image import content, descriptor, manifest, reference
from devenv.image import store as image_store
from devenv.reconcile import dockerfiles

OPTION = "BUILDKIT_DOCKERFILE_CHECK"  # the build argument that says what to hear of
_EVERYTHING = frozenset({"*", "**", "**/*"})


def check(
    dockerfile: instructions.Dockerfile, asked: request.Request, store: image_store.ImageStore
) -> list[instructions.Warning]:
    arguments = {
        name: value if value is not None else asked.environ.get(name) for name, value in asked.arguments.items()
    }
    return checks.check(
        dockerfile,
        arguments=arguments,
        environment=lambda image: _environment(image, asked, store),
        ignored=ignored(asked),
        wanted=_wanted(arguments.get(OPTION) or ""),
    )


def _wanted(text: str) -> rules.Wanted:
    try:
        return rules.wanted(text)
    except malformed.Malformed as exc:
        raise errors.UsageError(f"`{OPTION}={text}` is not understood: {exc}", hint=exc.hint) from exc


def ignored(asked: request.Request) -> Callable[[str], bool] | None:
    if not asked.context.startswith("/"):
        return None
    matcher = ignore.load(asked.context, dockerfiles.path(asked) or "")
    if matcher is None or matcher.has_exceptions:
        return None
    everything = any(each.text in _EVERYTHING for each in matcher.patterns)
    return lambda path: everything if path == "." else matcher.matches(path)


def _environment(image: str, asked: request.Request, store: image_store.ImageStore) -> dict[str, str] | None:
    if image in asked.contexts:
        return None
    target = scope.wanted(asked.platforms[0]) if asked.platforms else scope.own()
    try:
        wanted = reference.parse(asked.pinned.get(image, image))
        stored = store.index.find(wanted) if wanted.transport is reference.Transport.REGISTRY else None
        if stored is None or not store.has(stored, scope.machine(target)):
            return None

        def read(each: descriptor.Descriptor) -> bytes:
            return store.blobs.read(each, what=f"image `{image}`")

        found = manifest.find([stored.target], read, what=image, machine=scope.machine(target)).manifest
        config, _, _ = content.parse_config(read(found.config), what=image)
    except errors.ImageError:
        return None
    return dict(each.partition("=")[::2] for each in config.env)
