"""Which gateways `chat` and `load` use: those named, else the fleet's of this host, else asked.

fleet.json comes before the control plane, so that both work while it is away.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from skerry.cli.session import Session, UsageFault
from skerry.plumbing.errors import InvalidInput, NotFound, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from skerry.client.context import Context
    from skerry.client.gateways import Gateway
    from skerry.client.inference import InferenceClient

_MODELS_SECONDS_MAX = 5.0
_API_KEY_VARIABLE = "SKERRY_API_KEY"
_UNAUTHORIZED = 401


def known_gateways(session: Session, named: Sequence[str]) -> "tuple[Gateway, ...]":
    """Return the gateways to use; `named` as HOST:PORT or NAME=HOST:PORT."""
    from skerry.cli.supervisor.fleet_file import gateways_of, read_fleet
    from skerry.client.gateways import Gateway, parse_gateway

    if named:
        try:
            return tuple(parse_gateway(text) for text in named)
        except InvalidInput as error:
            raise UsageFault(f"--gateway: {error.message}") from None
    data_directory = session.context().data_directory
    if data_directory is not None and (data_directory / "fleet.json").is_file():
        return gateways_of(read_fleet(data_directory / "fleet.json"))
    with session.operator() as client:
        planes = client.list_planes()
    return tuple(
        Gateway(name=plane.name, http=plane.gateway.http, grpc=plane.gateway.grpc)
        for plane in planes
    )


def api_key(session: Session, named: Sequence[str] = ()) -> str:
    """Return the key to show to gateways, empty without one.

    From the environment, or from the context's file where its own gateways are asked: `named` ones
    are shown none of it. No option: that would be in every list of processes.
    """
    context = session.context()
    return key_of(replace(context, api_key_file=None) if named else context)


def key_of(context: "Context") -> str:
    """Return the key to show to the gateways of a context's fleet, empty without one."""
    from skerry.client.credentials import read_api_key

    if told := os.environ.get(_API_KEY_VARIABLE, "").strip():
        return told
    return read_api_key(context.api_key_file) if context.api_key_file is not None else ""


async def served_models(gateways: "Sequence[Gateway]", key: str = "") -> tuple[str, ...]:
    """Return the models of the first gateway that answers; Unavailable when none does."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_MODELS_SECONDS_MAX)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
        for gateway in gateways:
            try:
                async with http.get(f"http://{gateway.http}/v1/models") as response:
                    answer = await response.json()
                    if response.status == _UNAUTHORIZED:
                        raise Unauthenticated(f"{gateway.name}: {answer['error']['message']}")
                    return tuple(str(entry["id"]) for entry in answer["data"])
            except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError):
                continue
    names = ", ".join(gateway.name for gateway in gateways)
    raise Unavailable(f"no gateway answers ({names}); is the fleet up?")


async def pick_model(client: "InferenceClient", model: str | None, key: str) -> str:
    """Return the model given, or the only sensible default: the first one served."""
    if model:
        return model
    models = await served_models(client.gateways, key)
    if not models:
        raise NotFound("no model is served; `skerry apply -f FILE` a deployment first")
    return models[0]
