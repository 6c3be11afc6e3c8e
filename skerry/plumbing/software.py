"""Which release this is, as processes tell each other and people."""

from importlib import metadata


def software_version() -> str:
    """Return this release's name and number."""
    try:
        return f"skerry {metadata.version('skerry')}"
    except metadata.PackageNotFoundError:
        return "skerry (checkout)"
