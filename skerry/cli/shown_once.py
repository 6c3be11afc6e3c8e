"""Secrets that a command shows once: how they are named, how long they hold, where they go."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from skerry.cli.session import UsageFault, usage

if TYPE_CHECKING:
    from datetime import datetime

_FILE_MODE = 0o600


def check_credential_name(name: str, what: str) -> None:
    """Refuse what is no name of a credential, as a fault of the command line."""
    from skerry.fleet.names import InvalidName, check_name

    try:
        check_name(name, what)
    except InvalidName as error:
        raise UsageFault(str(error)) from None


def seconds_of(expires: str, otherwise: str = "") -> float:
    """Return how long a secret is to hold; UsageFault, with what else may be said, for no time."""
    from skerry.client.quantities import parse_duration

    try:
        with usage():
            seconds = parse_duration(expires)
    except ValueError as error:
        raise UsageFault(f"--expires {error}{otherwise}") from None
    if seconds <= 0:
        raise UsageFault(f"--expires must be longer than nothing{otherwise}")
    return seconds


def end_of(expires: str, now: "datetime") -> "datetime | None":
    """Return when a credential ends, None for never; UsageFault where that is no time."""
    from datetime import timedelta

    if expires == "never":
        return None
    return now + timedelta(seconds=seconds_of(expires, ", or never"))


def write_secret(out: Path, text: str) -> None:
    """Write a secret into a file of its owner alone."""
    from skerry.plumbing.files import write_atomically

    write_atomically(out, text.encode() + b"\n", mode=_FILE_MODE)


def show_or_write(text: str, out: Path | None) -> bool:
    """Show a secret, or write it where a file is named; say whether it was written."""
    if out is not None:
        write_secret(out, text)
        return True
    typer.echo(text)
    typer.echo("this is shown once; keep it where only its owner can read it", err=True)
    return False


def minute_of(moment: "datetime | None") -> str:
    """Return a moment as people read it."""
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
