"""What a replica's processes see of the environment that the agent was started in.

Whoever starts a replica host, and the host for its engine, takes out what the sources of base
models are asked with: an engine is given files, and runs the code of whoever published it.
"""

from collections.abc import Mapping

# As `models.hub_source` and `models.object_source` read them, and as the hub's own library does.
_SECRETS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN")
_STORES = ("AWS_", "GOOGLE_")


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the credentials of base models' sources."""
    return {
        key: value
        for key, value in environment.items()
        if key not in _SECRETS and not key.startswith(_STORES)
    }
