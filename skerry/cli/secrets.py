"""`skerry secrets new-key|list|rotate|unseal`: keys that seal the authority's key on its disk.

They work on the files of this machine, and need no control plane that runs.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import UsageFault, session_of
from skerry.cli.shown_once import show_or_write

if TYPE_CHECKING:
    from control_plane.settings import JoiningSettings
    from skerry.cli.render import Columns
    from skerry.plumbing.certificates import AuthorityKey
    from skerry.plumbing.sealing import Keyring

app = typer.Typer(help="Keys that seal the authority's key at rest.", no_args_is_help=True)

Settings = Annotated[
    Path | None, typer.Option("--settings", help="The control plane's settings file.")
]
DataDirectory = Annotated[
    Path | None, typer.Option("--data-dir", help="Else a fleet of `skerry up`; default ~/.skerry.")
]


@app.command("new-key")
def new_key(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it into this new file, mode 0600.")
    ] = None,
) -> None:
    """Make a sealing key and show it, this once; what it seals cannot be opened without it."""
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds
    from skerry.plumbing.sealing import keyring_of, new_key_text

    if out is not None and out.exists():
        raise UsageFault(f"{out} exists, and may be the only copy of a key: name a new file")
    text = new_key_text(SystemIds(SystemClock()))
    if show_or_write(text, out):
        key = keyring_of([text]).keys[0].id
        session_of(context).console().print(f"key {key}: written to {out}; keep a copy elsewhere")


@app.command("list")
def list_secrets(
    context: typer.Context, settings: Settings = None, data_dir: DataDirectory = None
) -> None:
    """Show what is sealed by which key, and whether the settings' keys open it; never a secret."""
    from skerry.cli.render import render_table
    from skerry.plumbing.certificates import authority_keys

    joining = _joining(settings, data_dir)
    keyring = _keyring(joining)
    ids = [key.id for key in keyring.keys]
    columns: Columns = (
        ("FILE", lambda row: str(row.path)),
        ("SEALED BY", lambda row: row.sealed_by or "nothing"),
        ("STATE", lambda row: _state(row, ids)),
    )
    session_of(context).console().print(render_table(columns, authority_keys(joining.authority)))


@app.command("rotate")
def rotate(
    context: typer.Context, settings: Settings = None, data_dir: DataDirectory = None
) -> None:
    """Seal everything by the first of joining.sealing_keys, also what is plain yet."""
    from skerry.plumbing.certificates import seal_authority

    joining = _joining(settings, data_dir)
    keyring = _keyring(joining)
    if not keyring.keys:
        raise UsageFault(
            "the settings name no key in joining.sealing_keys; `skerry secrets new-key --out FILE`"
            " makes one, `skerry up --sealing-key file:FILE` or the settings name it"
        )
    _tell(context, seal_authority(joining.authority, keyring, keyring))


@app.command("unseal")
def unseal(
    context: typer.Context, settings: Settings = None, data_dir: DataDirectory = None
) -> None:
    """Have everything lie there plain, mode 0600: for a release that knows of no sealing."""
    from skerry.plumbing.certificates import seal_authority
    from skerry.plumbing.sealing import PLAIN

    joining = _joining(settings, data_dir)
    _tell(context, seal_authority(joining.authority, _keyring(joining), PLAIN))


def _joining(settings: Path | None, data_dir: Path | None) -> "JoiningSettings":
    from control_plane.settings import read_settings
    from skerry.cli.up import resolve_directory

    path = settings or resolve_directory(data_dir).control_plane / "settings.json"
    if not path.is_file():
        raise UsageFault(
            f"{path} does not exist; name the control plane's settings with --settings, or its data"
            " directory with --data-dir"
        )
    joining = read_settings(path).joining
    if joining is None:
        raise UsageFault(
            f"{path} has no section `joining`, so its control plane has no authority: there is"
            " nothing to seal"
        )
    return joining


def _keyring(joining: "JoiningSettings") -> "Keyring":
    from skerry.plumbing.sealing import read_keyring

    return read_keyring(joining.sealing_keys, os.environ)


def _state(row: "AuthorityKey", ids: list[str]) -> str:
    if row.sealed_by is None:
        return "plain: `skerry secrets rotate`" if ids else "plain"
    if row.sealed_by not in ids:
        return "not to be opened: its key is none of joining.sealing_keys"
    return "sealed" if row.sealed_by == ids[0] else "by an older key: `skerry secrets rotate`"


def _tell(context: typer.Context, written: "tuple[AuthorityKey, ...]") -> None:
    console = session_of(context).console()
    for one in written:
        console.print(f"{one.path}: {f'sealed by {one.sealed_by}' if one.sealed_by else 'plain'}")
    if not written:
        console.print("nothing to do")
