"""The database's schema: brought up to date at start, and refused when it is newer than we are."""

import importlib.metadata
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from control_plane.store.engine import parse_url
from control_plane.store.faults import translated
from skerry.plumbing.errors import Infeasible

_ENVIRONMENT = "migrations/env.py"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to this release's schema; Infeasible when it is newer than that."""
    refuse_newer(url)
    with translated():
        command.upgrade(alembic_config(url), revision)


def current(url: str) -> str | None:
    """Return the revision of the database's schema; None for an empty database."""
    engine = _bare_engine(url)
    with translated(), engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrations_path() -> Path:
    """Return where the migrations are: beside the packages in a checkout, else as installed."""
    checkout = Path(__file__).resolve().parents[2] / "migrations"
    if checkout.is_dir():
        return checkout
    # The wheel carries them as data files, wherever the installer's scheme puts those.
    for file in importlib.metadata.files("skerry") or ():
        if file.as_posix().endswith(_ENVIRONMENT):
            return Path(str(file.locate())).resolve().parent
    raise Infeasible("this installation lacks the folder `migrations`; install the package again")


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for a database."""
    config = Config(attributes={"url": parse_url(url)})
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    return config


def refuse_newer(url: str) -> None:
    """Raise Infeasible when the schema is newer than this release."""
    found = current(url)
    if found is None:
        return
    scripts = ScriptDirectory.from_config(alembic_config(url))
    try:
        scripts.get_revision(found)
    except CommandError:
        raise Infeasible(
            f"the database has schema {found!r}, which this release does not know: a newer release"
            " wrote it. Start that release, or restore the backup made before its upgrade"
        ) from None


def _bare_engine(url: str) -> Engine:
    return create_engine(parse_url(url), poolclass=NullPool)
