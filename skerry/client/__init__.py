"""The public Python client: deployment files, the operator API, and requests to several gateways.

`connect` and `connect_async` are where programs begin (docs/operating/client.md). The command line
is built on the same clients; it shows fleet values and its own frozen rows, never protobuf.
"""

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

# gRPC takes longer to import than a command's help takes to print: only who connects pays for it.
if TYPE_CHECKING:
    from skerry.client.operator import AsyncOperatorClient, OperatorClient

__all__ = ["connect", "connect_async"]


def connect(
    endpoint: str | None = None,
    *,
    config: Path | None = None,
    actor: str | None = None,
    reason: str = "",
) -> "OperatorClient":
    """Return a blocking client of the fleet that the command line would talk to.

    `endpoint` is HOST:PORT, several with commas; `config` a context file. `actor` is who acts, by
    default the user of this process; `reason` is recorded with every change.
    """
    from skerry.client.operator import OperatorClient

    return OperatorClient(**_whom(endpoint, config, actor), reason=reason)


def connect_async(
    endpoint: str | None = None,
    *,
    config: Path | None = None,
    actor: str | None = None,
    reason: str = "",
) -> "AsyncOperatorClient":
    """Return the same for asyncio; needs a running loop."""
    from skerry.client.operator import AsyncOperatorClient

    return AsyncOperatorClient(**_whom(endpoint, config, actor), reason=reason)


def _whom(endpoint: str | None, config: Path | None, actor: str | None) -> dict[str, Any]:
    from skerry.client.context import load_context
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds

    return {
        "context": load_context(config, endpoint, os.environ),
        "ids": SystemIds(SystemClock()),
        "actor": actor or f"user:{_user_name()}",
    }


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
