"""The planes that `skerry up` makes: clouds, regions and prices such as one would rent.

`skerry.cli.supervisor.layout` takes the first N; past the list, names are generated.
"""

from dataclasses import dataclass

PLANES_MAX = 32  # each is four processes and its replicas; one machine carries no more


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneOffer:
    """A plane to be: where it says it is, and the price of an accelerator-hour in USD."""

    name: str
    cloud: str
    region: str
    zone: str
    residency_zones: tuple[str, ...]
    price_per_accelerator_hour: float


def _offer(text: str) -> PlaneOffer:
    name, cloud, region, zone, residency, price = text.split()
    return PlaneOffer(
        name=name,
        cloud=cloud,
        region=region,
        zone=zone,
        residency_zones=tuple(residency.split(",")),
        price_per_accelerator_hour=float(price),
    )


# name, cloud, region, zone, residency zones, price
_OFFERS = tuple(
    map(
        _offer,
        (
            "aws-us-east-1 aws us-east-1 us-east-1a us 0.048",
            "gcp-europe-west4 gcp europe-west4 europe-west4-b eu 0.041",
            "onprem-fra onprem fra fra-1 eu,de 0.019",
            "azure-westeurope azure westeurope westeurope-2 eu 0.045",
            "oci-us-phoenix-1 oci us-phoenix-1 phx-ad-1 us 0.032",
            "coreweave-us-central coreweave us-central us-central-07a us 0.036",
            "aws-eu-central-1 aws eu-central-1 eu-central-1c eu,de 0.052",
            "gcp-us-central1 gcp us-central1 us-central1-a us 0.040",
            "azure-japaneast azure japaneast japaneast-1 jp 0.050",
            "lambda-us-south-1 lambda us-south-1 us-south-1a us 0.030",
            "nebius-eu-north1 nebius eu-north1 eu-north1-a eu 0.034",
            "onprem-sin onprem sin sin-1 sg 0.022",
        ),
    )
)


def offer_planes(count: int) -> tuple[PlaneOffer, ...]:
    """Return the first `count` planes of the catalogue."""
    generated = (_generate(number) for number in range(len(_OFFERS) + 1, count + 1))
    return (*_OFFERS, *generated)[:count]


def _generate(number: int) -> PlaneOffer:
    return PlaneOffer(
        name=f"edge-{number:02d}",
        cloud="edge",
        region=f"edge-{number:02d}",
        zone=f"edge-{number:02d}-a",
        residency_zones=("us",) if number % 2 else ("eu",),
        price_per_accelerator_hour=round(0.025 + 0.001 * (number % 7), 3),
    )
