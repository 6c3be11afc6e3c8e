"""The API key that a fleet's owner has at first, for every deployment: DIR/api.key.

`skerry up` and the demo make it once the fleet answers. While its file is there none is made again,
also when it was revoked.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.fleet.api_key import EVERY_DEPLOYMENT, KeyTerms, key_name_in
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import AlreadyExists
from skerry.plumbing.files import write_atomically

if TYPE_CHECKING:
    from skerry.client.operator import AsyncOperatorClient

FIRST_KEY = "default"
_KEY_MODE = 0o600


async def ensure_first_key(path: Path, client: "AsyncOperatorClient", clock: Clock) -> None:
    """Make the key and write it into the file, unless there is one."""
    if await asyncio.to_thread(_is_kept, path):
        return
    terms = KeyTerms(deployments=(EVERY_DEPLOYMENT,))
    try:
        made = await client.create_api_key(FIRST_KEY, terms)
    except AlreadyExists:
        # The file is lost, and nobody can say that key again; somebody may still use it.
        name = f"{FIRST_KEY}-{clock.now():%Y%m%d%H%M%S}"
        made = await client.create_api_key(name, terms)
    data = made.text.encode() + b"\n"
    await asyncio.to_thread(write_atomically, path, data, mode=_KEY_MODE)


def _is_kept(path: Path) -> bool:
    """Say whether the file has a key, and see to it that its owner alone may read it."""
    try:
        if key_name_in(path.read_text("ascii").strip()) is None:
            return False
        path.chmod(_KEY_MODE)
    except (OSError, UnicodeDecodeError):
        return False  # the first start; or damaged, and then made anew
    return True
