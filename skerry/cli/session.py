"""What every command shares: the global options, the console, the client, and how it ends.

`main` puts a `Session` into the Typer context; commands take it from there.
"""

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from skerry.plumbing.errors import SkerryError

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.context import Context
    from skerry.client.operator import OperatorClient

EXIT_FAILED = 1
EXIT_USAGE = 2
# A person at a prompt waits up to 4 s for a control plane that comes back, and then wants to know;
# programs that use the client wait 10 s.
ROUNDS_MAX = 5
# A pipe has no width; what reads it wants whole cells.
_PIPE_COLUMNS = 1_000


class UsageFault(SkerryError):
    """The command line or a file it names is wrong: exit code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The global options of one run of the command."""

    config: Path | None = None
    endpoint: str | None = None
    no_color: bool = False
    reason: str = ""
    project: str | None = None

    def context(self) -> "Context":
        """Return the client's context; UsageFault when none can be read."""
        from skerry.client.context import load_context

        with usage():
            context = load_context(self.config, self.endpoint, os.environ)
        project = self.project or os.environ.get("SKERRY_PROJECT")
        return replace(context, project=project) if project else context

    def console(self) -> "Console":
        """Return the console for results; no colours and no cut cells in a pipe."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else _PIPE_COLUMNS
        return Console(
            no_color=self.no_color, width=width, highlight=False, markup=False, emoji=False
        )

    @contextmanager
    def operator(self) -> Iterator["OperatorClient"]:
        """Connect to the operator API as the user of this process."""
        from skerry.client.operator import OperatorClient
        from skerry.client.retrying import RetryPolicy
        from skerry.plumbing.clock import SystemClock
        from skerry.plumbing.ids import SystemIds

        context = self.context()
        ids, actor = SystemIds(SystemClock()), f"user:{user_name()}"
        with OperatorClient(
            context, ids, actor, self.reason, retries=RetryPolicy(rounds_max=ROUNDS_MAX)
        ) as client:
            yield client


@contextmanager
def usage() -> Iterator[None]:
    """Turn a fault of what the user gave into one with exit code 2."""
    try:
        yield
    except UsageFault:
        raise
    except SkerryError as error:
        raise UsageFault(error.message, violations=error.violations) from None


def session_of(context: typer.Context) -> Session:
    """Return the session that the root command made."""
    session = context.find_object(Session)
    return session or Session()


def user_name() -> str:
    """Return who runs this process, `unknown` when the system does not say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def describe(error: SkerryError) -> str:
    """Return an error as people read it: the message, with places that it does not name itself."""
    from skerry.plumbing.logs import escape_controls

    lines = [error.message]
    for told in error.violations:
        if not told.path or told.path in error.message:
            continue
        if told.message not in error.message:
            lines.append(f"  {told.path}: {told.message}")
        elif "." in told.path or "[" in told.path:
            # A place in a file. A word alone is a field of the request, such as `name`, which who
            # typed the command never saw.
            lines.append(f"  field: {told.path}")
    return "\n".join(escape_controls(line) for text in lines for line in text.splitlines())


def exit_code_of(error: SkerryError) -> int:
    """Return the exit code that a failure ends with."""
    return EXIT_USAGE if isinstance(error, UsageFault) else EXIT_FAILED
