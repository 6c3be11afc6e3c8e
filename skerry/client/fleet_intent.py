"""The whole of what operators said of a fleet, read through its API, as files would say it.

`skerry export` writes it, `skerry diff` compares files with it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from skerry.client.catalogue_calls import ENTRY_KINDS
from skerry.client.manifest import Object
from skerry.fleet.deployment import Deployment
from skerry.fleet.intent import Intent, PriceIntent, subject_of

if TYPE_CHECKING:
    from skerry.client.operator import OperatorClient


def read_fleet(client: "OperatorClient") -> tuple[Object, ...]:
    """Return every intent, what others name first, then every deployment, each kind by name.

    Deployments that are being deleted are left out: nobody wants them any more.
    """
    wanted = [row.deployment for row in client.list_deployments() if not row.deleting]
    return (*read_intents(client), *sorted(wanted, key=lambda one: one.name))


def read_intents(client: "OperatorClient") -> tuple[Intent, ...]:
    """Return every intent but deployments, what others name first, each kind by name."""
    found: list[Intent] = []
    for kind in ENTRY_KINDS.values():
        # What planes report and nobody registered has no etag.
        found += [row.value for row in client.list_entries(kind) if row.etag]
    found += client.list_pool_intents()
    found += client.list_cordon_intents()
    found += [
        PriceIntent(
            pool=row.pool,
            valid_from=row.valid_from,
            price_per_accelerator_hour=row.price_per_accelerator_hour,
        )
        for row in client.list_prices()
    ]
    return tuple(sorted(found, key=subject_of))


def split(objects: Iterable[Object]) -> tuple[list[Deployment], list[Intent]]:
    """Return the deployments and the other intents among objects, each in their order."""
    deployments: list[Deployment] = []
    intents: list[Intent] = []
    for one in objects:
        if isinstance(one, Deployment):
            deployments.append(one)
        else:
            intents.append(one)
    return deployments, intents
