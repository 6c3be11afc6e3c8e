"""Secrets by reference: a setting names where its secret is, and holds none.

`env:NAME`, `file:PATH`, or `command:["PROGRAM", "ARGUMENT", ...]`: what the program writes, which
is how Vault, a KMS or a cloud's command line come in. Read once, by whoever reads the setting.
"""

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Infeasible, InvalidInput

# A PEM file with its chain takes a tenth; more is no secret but something else by mistake.
SECRET_BYTES_MAX = 64 * 1024
# A login and a read over the network; whoever starts waits for it.
COMMAND_SECONDS_MAX = 10.0
_CLOCK = SystemClock()
_ENVIRONMENT, _FILE, _COMMAND = "env:", "file:", "command:"
_FOR_OTHERS = 0o077
# A secret that is mounted is root's, and the group is how the process may read it.
_FOR_OTHERS_OF_ROOTS = 0o037


class SecretSource(Protocol):
    """Where one secret is."""

    def read(self) -> str:
        """Return the secret without the end of its line; it is never empty.

        Infeasible says why there is none and what to do, and shows nothing of it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSecret:
    """A variable of an environment."""

    name: str
    environment: Mapping[str, str]

    def read(self) -> str:
        """See SecretSource."""
        told = self.environment.get(self.name)
        if told is None:
            raise Infeasible(f"the variable {self.name} is not set: set it where this is started")
        return _secret(os.fsencode(told), f"the variable {self.name}")

    def __repr__(self) -> str:
        """Return the reference: the environment has secrets in it."""
        return f"{_ENVIRONMENT}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSecret:
    """A file of this user alone, or of root's."""

    path: Path

    def read(self) -> str:
        """See SecretSource."""
        try:
            # A pipe that nobody writes to would otherwise hold up the start for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                _check_owner(self.path, os.fstat(descriptor))
                data = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            raise Infeasible(f"the secret in {self.path} cannot be read: {error}") from None
        return _secret(data, str(self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSecret:
    """What a program writes to its output; its words are passed on as they are, to no shell."""

    words: tuple[str, ...]
    seconds_max: float = COMMAND_SECONDS_MAX

    def read(self) -> str:
        """See SecretSource."""
        what = f"the program {self.words[0]}"
        try:
            process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # What such programs complain about may quote the secret.
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Infeasible(f"{what} that tells a secret cannot be started: {error}") from None
        try:
            data, code = self._wait_for(process)
        except TimeoutError:
            raise Infeasible(
                f"{what} told no secret in {self.seconds_max:g} s; run it by hand"
            ) from None
        if code and len(data) <= SECRET_BYTES_MAX:
            raise Infeasible(f"{what} ended with {code} and no secret; run it by hand to see why")
        return _secret(data, what)

    def _wait_for(self, process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
        """Return what it wrote and how it ended; TimeoutError, whoever still holds its output."""
        deadline = _CLOCK.monotonic() + self.seconds_max
        data = b""
        assert process.stdout is not None, "it was asked for"
        with process.stdout as output:
            try:
                while len(data) <= SECRET_BYTES_MAX:
                    left = max(0.0, deadline - _CLOCK.monotonic())
                    if not select.select([output], [], [], left)[0]:
                        raise TimeoutError
                    piece = os.read(output.fileno(), SECRET_BYTES_MAX + 1 - len(data))
                    if not piece:
                        return data, process.wait(max(0.0, deadline - _CLOCK.monotonic()))
                    data += piece
                return data, 0
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                _end_group(process.pid)  # also what it left behind in its session
                process.wait()


def is_reference(text: str) -> bool:
    """Say whether a setting names where its secret is, rather than holding it."""
    return text.startswith((_ENVIRONMENT, _FILE, _COMMAND))


def source_of(reference: str, environment: Mapping[str, str]) -> SecretSource:
    """Return where a reference says that a secret is; InvalidInput for what says nothing."""
    if reference.startswith(_ENVIRONMENT) and (name := reference.removeprefix(_ENVIRONMENT)):
        return EnvironmentSecret(name=name, environment=environment)
    if reference.startswith(_FILE):
        path = Path(reference.removeprefix(_FILE))
        if path.is_absolute():
            return FileSecret(path=path)
    if reference.startswith(_COMMAND):
        with contextlib.suppress(ValueError, RecursionError):
            words = json.loads(reference.removeprefix(_COMMAND))
            if isinstance(words, list) and words and all(isinstance(w, str) for w in words):
                return CommandSecret(words=tuple(words))
    raise InvalidInput(
        "a secret is named by env:NAME, by file:PATH with an absolute path, or by"
        ' command:["PROGRAM", "ARGUMENT"]'
    )


def resolved(text: str, environment: Mapping[str, str]) -> str:
    """Return the secret that a setting names, or the setting itself where it names none."""
    return source_of(text, environment).read() if is_reference(text) else text


def _secret(data: bytes, what: str) -> str:
    if len(data) > SECRET_BYTES_MAX:
        raise Infeasible(f"{what} holds more than {SECRET_BYTES_MAX} bytes, which is no secret")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Infeasible(f"{what} holds what is no text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Infeasible(f"{what} holds nothing; put the secret there")
    return text


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Infeasible(f"{path} is no file")
    if found.st_uid not in (0, os.geteuid()):
        raise Infeasible(f"{path} is somebody else's, who may change it: `chown` it to this user")
    is_own = found.st_uid == os.geteuid()
    if found.st_mode & (_FOR_OTHERS if is_own else _FOR_OTHERS_OF_ROOTS):
        raise Infeasible(f"{path} is open to others than its owner: `chmod 600 {path}`")


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
