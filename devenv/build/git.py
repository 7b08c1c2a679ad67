"""Git repositories as contexts and as what ADD takes, by the ``git`` program.

    <data>/build/git/<id of the remote>/repository     bare; what was fetched of it
    <data>/build/git/<id of the remote>/<key>/files    a checkout, ready; made in stage/ and renamed

First a ref is resolved to a commit, which costs one question to the remote; the commit is the key. A commit that is
here isn't fetched again. Nothing of the user's configuration is read and nothing is asked on the terminal; hooks don't
run, and submodules never come from this machine's own files.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from typing import NamedTuple

from devenv import errors
from devenv.build import fetch, gitaddress, keeping
from devenv.util import lock, tree

_PASSED = ("PATH", *(f"{name}_proxy" for name in ("http", "https", "no", "all")))
_SHALLOW = re.compile(r"--depth|shallow")
_NOT_OFFERED = re.compile(r"not our ref|unadvertised object|couldn't find remote ref|Server does not allow")
_NAME = 32  # characters of a checkout's
_HEX = re.compile("[0-9a-fA-F]+")
_HEAD = re.compile(r"ref: (refs/heads/\S+)\tHEAD")


class Resolved(NamedTuple):
    object: str  # what the ref names: a commit, or an annotated tag
    commit: str  # what the tag is of
    ref: str  # in full, or the commit


class Checkout(NamedTuple):
    folder: str
    key: str  # the same for the same files
    commit: str


class Failed(Exception):
    """What git wrote to its standard error."""


class Repositories:
    """``secret`` gives ``GIT_AUTH_TOKEN`` and ``GIT_AUTH_HEADER``; ``agent`` is the socket of an ssh agent."""

    def __init__(
        self,
        data: str,
        environ: Mapping[str, str],
        *,
        secret: fetch.Secret = lambda _: None,
        agent: str = "",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._data = data
        self._environ = environ
        self._secret = secret
        self._agent = agent
        self._tell = tell

    def resolve(self, address: gitaddress.Address) -> Resolved:
        """Which commit it is now. Raises ``BuildError``."""
        if address.checksum and not _HEX.fullmatch(address.checksum):
            raise errors.BuildError(f"`{address.checksum}` is no commit", hint="give its digits, or the first of them")
        if gitaddress.is_commit(address.ref):
            found = Resolved(address.ref, address.ref, address.ref)
        elif address.by_commit:
            if not gitaddress.is_commit(address.checksum):
                raise errors.BuildError("`fetch-by-commit` needs the whole commit as `checksum`")
            found = Resolved(address.checksum, address.checksum, address.ref or address.checksum)
        else:
            try:
                found = self._ask(address)
            except Failed as exc:
                raise self._failure(address, exc) from exc
        if address.checksum and not any(each.startswith(address.checksum) for each in found[:2]):
            raise errors.BuildError(
                f"`{fetch.shown(address.remote)}` has the commit {found.commit} and not {address.checksum}",
                hint="correct the checksum, if that is what it should be now",
            )
        return found

    def checkout(
        self, address: gitaddress.Address, resolved: Resolved, *, keep_git_dir: bool = False, commit_time: bool = False
    ) -> Checkout:
        """Its files, to be read in place. Raises ``BuildError``."""
        keep, timed = _keeps(address, keep_git_dir), commit_time or address.commit_time
        whole = _key(address, resolved, keep_git_dir=keep_git_dir, commit_time=commit_time)
        where = f"{self._data}/build/git/{hashlib.sha256(address.remote.encode()).hexdigest()[:_NAME]}"
        folder = f"{where}/{hashlib.sha256(whole.encode()).hexdigest()[:_NAME]}"
        try:
            os.makedirs(where, mode=0o700, exist_ok=True)
            with lock.held(f"{where}/lock"):
                if not os.path.isdir(folder):
                    self._make(address, resolved, where, folder, keep=keep, timed=timed)
                keeping.used(folder)
                keeping.used(where)
                keeping.drop_unused(where, lambda name: len(name) == _NAME)
        except Failed as exc:
            raise self._failure(address, exc) from exc
        except OSError as exc:
            raise errors.BuildError(
                f"`{fetch.shown(address.remote)}` can't be checked out: `{exc.filename}`: {exc.strerror}"
            ) from exc
        name = key(address, resolved, keep_git_dir=keep_git_dir, commit_time=commit_time)
        return Checkout(_within(f"{folder}/files", address), name, resolved.commit)

    # -- the remote -------------------------------------------------------------------------------------------

    def _ask(self, address: gitaddress.Address) -> Resolved:
        ref = address.ref
        if not ref:
            head = _HEAD.search(self._git(address, "ls-remote", "--symref", "--", address.remote, "HEAD"))
            if head is None:
                raise errors.BuildError(f"`{fetch.shown(address.remote)}` says no branch of its own", hint="name one")
            ref = head[1]
        lines = self._git(address, "ls-remote", "--", address.remote, ref, f"{ref}^{{}}").splitlines()
        offered = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
        # A branch is preferred, as by git-checkout(1).
        for prefix in ("refs/", "refs/heads/", "refs/tags/"):
            name = prefix + ref.removeprefix(prefix)
            if (found := offered.get(name)) is not None:
                return Resolved(found, offered.get(f"{name}^{{}}", found), name)
        raise errors.BuildError(
            f"`{fetch.shown(address.remote)}` has no branch and no tag `{ref}`",
            hint="a commit is named by all its digits",
        )

    def _fetch(self, address: gitaddress.Address, resolved: Resolved, bare: str) -> None:
        if not os.path.isdir(bare):
            kind = ["--object-format=sha256"] if len(resolved.object) == 64 else []
            self._git(address, "init", "--quiet", "--bare", "--template=", *kind, "--", bare)
        if self._has(address, bare, resolved.object):
            return
        tree.remove(f"{bare}/shallow.lock")  # of one that was killed
        self._tell(f"fetching {fetch.shown(address.remote)}")
        named = resolved.ref if not gitaddress.is_commit(resolved.ref) and not address.by_commit else resolved.object
        for refspec, shallow in ((named, True), (resolved.object, True), ("", False)):
            try:
                self._fetch_one(address, bare, refspec, shallow=shallow)
            except Failed as exc:
                # A commit that no ref leads to directly: some servers don't give it, but with all that leads to it.
                if not refspec or not (_NOT_OFFERED.search(str(exc)) or _SHALLOW.search(str(exc))):
                    raise
            if self._has(address, bare, resolved.object):
                return
        raise errors.BuildError(f"`{fetch.shown(address.remote)}` does not have the commit {resolved.object} any more")

    def _fetch_one(self, address: gitaddress.Address, bare: str, refspec: str, *, shallow: bool) -> None:
        words = ["--git-dir", bare, "fetch", "--quiet", "--force", "--no-write-fetch-head"]
        whole = ["--tags", *(["--unshallow"] if os.path.exists(f"{bare}/shallow") else [])]
        last = ["--", address.remote, *([refspec] if refspec else ["+refs/heads/*:refs/remotes/origin/*"])]
        if not shallow:
            self._git(address, *words, *whole, *last)
            return
        try:
            self._git(address, *words, "--depth=1", "--no-tags", *last)
        except Failed as exc:
            if not _SHALLOW.search(str(exc)) or _NOT_OFFERED.search(str(exc)):
                raise
            self._git(address, *words, "--no-tags", *last)  # the plain protocol of files can't do it

    def _has(self, address: gitaddress.Address, repository: str, thing: str) -> bool:
        try:
            self._git(address, "--git-dir", repository, "cat-file", "-e", thing)
        except Failed:
            return False
        return True

    # -- the files --------------------------------------------------------------------------------------------

    def _make(
        self, address: gitaddress.Address, resolved: Resolved, where: str, folder: str, *, keep: bool, timed: bool
    ) -> None:
        bare, stage = f"{where}/repository", f"{where}/stage"
        files = f"{stage}/files"
        self._fetch(address, resolved, bare)
        tree.remove(stage)
        try:
            os.makedirs(files, mode=0o755)
            commit = self._git(address, "--git-dir", bare, "rev-parse", f"{resolved.object}^{{commit}}").strip()
            modules = address.submodules and self._has(address, bare, f"{commit}:.gitmodules")
            if keep or modules:
                self._clone(address, resolved, bare, files, submodules=modules)
            else:
                self._work_tree(address, bare, files, commit)
            if not keep:
                _forget_git(files)
            if timed:
                moment = int(self._git(address, "--git-dir", bare, "log", "-1", "--format=%ct", commit))
                _set_times(files, moment)
            os.rename(stage, folder)
        except BaseException:
            tree.remove(stage)
            raise

    def _work_tree(self, address: gitaddress.Address, bare: str, files: str, commit: str) -> None:
        index = f"{files}.index"
        tree.remove(index)
        try:
            words = ["--git-dir", bare, "--work-tree", files, "read-tree", "-u", "--reset", commit]
            self._git(address, *words, cwd=files, index=index)
        finally:
            tree.remove(index)

    def _clone(
        self, address: gitaddress.Address, resolved: Resolved, bare: str, files: str, *, submodules: bool
    ) -> None:
        kind = ["--object-format=sha256"] if len(resolved.object) == 64 else []
        name = resolved.ref if resolved.ref.startswith("refs/") else "refs/devenv/commit"
        self._git(address, "--git-dir", bare, "update-ref", "refs/devenv/wanted", resolved.object)
        self._git(address, "init", "--quiet", "--template=", *kind, cwd=files)
        # By the protocol and not by linking files: a repository's own files may be made to name others of this machine.
        words = [
            "fetch",
            "--quiet",
            "-u",
            "--depth=1",
            "--no-tags",
            "--",
            f"file://{bare}",
            f"refs/devenv/wanted:{name}",
        ]
        self._git(address, *words, cwd=files)
        self._git(address, "checkout", "--quiet", "--detach", name, cwd=files)
        self._git(address, "remote", "add", "origin", address.remote, cwd=files)
        if submodules:
            words = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]
            self._git(address, *words, cwd=files)
        self._git(address, "remote", "set-url", "origin", fetch.shown(address.remote), cwd=files)
        self._git(address, "reflog", "expire", "--all", "--expire=now", cwd=files)
        tree.remove(f"{files}/.git/FETCH_HEAD")

    # -- the program ------------------------------------------------------------------------------------------

    def _git(self, address: gitaddress.Address, *words: str, cwd: str = "/", index: str = "") -> str:
        """Its standard output. Raises ``Failed``."""
        program = shutil.which("git", path=self._environ.get("PATH") or os.defpath)
        if program is None:
            raise errors.BuildError("git sources need the program `git`", hint="apt install git")
        environ = self._surroundings(address)
        if index:
            environ["GIT_INDEX_FILE"] = index
        done = subprocess.run(
            [program, *words],
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            umask=0o022,
        )
        if done.returncode:
            raise Failed(done.stderr.decode("utf-8", "replace").strip() or f"git ends with {done.returncode}")
        return done.stdout.decode("utf-8", "surrogateescape")

    def _surroundings(self, address: gitaddress.Address) -> dict[str, str]:
        passed = {name: self._environ[name] for name in (*_PASSED, *map(str.upper, _PASSED)) if name in self._environ}
        settings = {
            "protocol.file.allow": "user",  # not for submodules
            "protocol.ext.allow": "never",
            "core.hooksPath": os.devnull,
            "init.defaultBranch": "master",
            "advice.detachedHead": "false",
            "safe.directory": "*",
            "gc.auto": "0",
        }
        if rights := self._rights(address.remote):
            settings[f"http.{_scope(address.remote)}.extraHeader"] = f"Authorization: {rights}"
        # In the environment, where no other user's ps(1) shows it.
        configured = {"GIT_CONFIG_COUNT": str(len(settings))}
        for number, (name, value) in enumerate(settings.items()):
            configured |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return {
            **passed,
            **configured,
            **({"SSH_AUTH_SOCK": self._agent} if self._agent else {}),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HOME": os.devnull,
            "GIT_SSH_COMMAND": self._ssh(),
            "LC_ALL": "C",
        }

    def _ssh(self) -> str:
        """A host that is not known yet is taken at its word, one whose key has changed is refused."""
        command = f"ssh -F {os.devnull} -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
        home = self._environ.get("HOME", "")
        # $HOME isn't looked at by ssh(1), and in a user namespace its user is another.
        return f"{command} -o UserKnownHostsFile={home}/.ssh/known_hosts" if home and " " not in home else command

    def _rights(self, remote: str) -> str:
        host = re.sub(r"^[a-z]+://(?:[^/@]*@)?([^/]*).*$", r"\1", remote)
        for suffix in (f".{host}", ""):
            if header := self._secret(f"GIT_AUTH_HEADER{suffix}"):
                return header.decode("latin-1").strip()
            if token := self._secret(f"GIT_AUTH_TOKEN{suffix}"):
                return f"basic {base64.b64encode(b'x-access-token:' + token.strip()).decode()}"
        return ""

    def _failure(self, address: gitaddress.Address, exc: Failed) -> errors.BuildError:
        said = str(exc).replace(address.remote, fetch.shown(address.remote))
        lines = [line for line in said.splitlines() if line.strip()] or [""]
        told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
        if told == "fatal: Could not read from remote repository.":
            told = lines[0]  # what ssh said
        hint = None
        if re.search(r"terminal prompts disabled|Authentication failed|could not read Username", str(exc)):
            hint = "give a token: --secret id=GIT_AUTH_TOKEN,env=GIT_AUTH_TOKEN"
        elif re.search(r"Permission denied \(publickey", str(exc)):
            hint = "give an agent with a key: --ssh default"
        return errors.BuildError(
            f"`{fetch.shown(address.remote)}`: git says: {told.partition(': ')[2] or told}", hint=hint, note=said
        )


def key(
    address: gitaddress.Address, resolved: Resolved, *, keep_git_dir: bool = False, commit_time: bool = False
) -> str:
    """The same for the same files."""
    whole = _key(address, resolved, keep_git_dir=keep_git_dir, commit_time=commit_time)
    return f"{whole}:{address.folder}" if address.folder else whole


def _key(address: gitaddress.Address, resolved: Resolved, *, keep_git_dir: bool, commit_time: bool) -> str:
    """Of the whole repository."""
    found = f"{resolved.object}.git#{resolved.ref}" if _keeps(address, keep_git_dir) else resolved.commit
    found += "" if address.submodules else "(skip-submodules)"
    return found + ("(mtime=commit)" if commit_time or address.commit_time else "")


def _keeps(address: gitaddress.Address, wanted: bool) -> bool:
    return wanted if address.keep_git_dir is None else address.keep_git_dir


def _scope(remote: str) -> str:
    """A token for one repository of GitHub is good for its submodules there."""
    return next(
        (host for host in ("https://github.com/", "https://www.github.com/") if remote.startswith(host)), remote
    )


def _within(folder: str, address: gitaddress.Address) -> str:
    path = folder
    for part in filter(None, address.folder.split("/")):
        path = f"{path}/{part}"
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        except OSError:
            is_folder = False
        if not is_folder:
            raise errors.BuildError(f"`{fetch.shown(address.remote)}` has no folder `{address.folder}`")
    return path


def _forget_git(folder: str) -> None:
    """The repository itself, and where submodules say which is theirs."""
    for path, folders, files in os.walk(folder):
        if ".git" in folders or ".git" in files:
            tree.remove(f"{path}/.git")
            folders[:] = [name for name in folders if name != ".git"]


def _set_times(folder: str, moment: int) -> None:
    for path, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            os.utime(f"{path}/{name}", (moment, moment), follow_symlinks=False)
    os.utime(folder, (moment, moment))
