"""Hypothesis strategies for everything that operators say of a fleet."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from skerry.client.manifest import Object
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.cordon import Part, Scope
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    ServiceObjective,
    Spread,
    Tolerate,
)
from skerry.fleet.engine import EngineName, EngineSpec, PrefixCaching, Quantisation
from skerry.fleet.intent import CordonIntent, Intent, PoolIntent, PriceIntent
from skerry.fleet.pool import CapacityClass, PoolTerms
from skerry.fleet.routing import Routing, RoutingPolicy
from skerry.fleet.scaling import FloorSchedule, Strategy

# What YAML readers take for something else, beside whatever else is printable.
_ODD = st.sampled_from(("1e5", "0o17", "no", "~", "12:30:00", "- a", "a: b", "#", " x ", "'", '"'))
_PRINTABLE = st.characters(codec="utf-8", categories=("L", "N", "P", "S"), include_characters=" ")
TEXTS = st.one_of(_ODD, st.text(_PRINTABLE, min_size=1, max_size=30))
DESCRIPTIONS = st.one_of(st.just(""), TEXTS)
NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
POOLS = st.tuples(NAMES, NAMES).map("--".join)
REGIONS = st.tuples(NAMES, NAMES).map("/".join)
DOLLARS = st.floats(0.0, 10_000.0)
BYTES = st.one_of(st.integers(0, 2**50), st.sampled_from((0, 80 * 2**30)))
TIMES = st.integers(0, 6 * 10**15).map(
    lambda microseconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
SECONDS = st.one_of(
    st.floats(1e-6, 10.0), st.integers(1, 9_999).map(lambda n: n / 1000), st.just(9.0)
)


def clouds() -> st.SearchStrategy[Cloud]:
    return st.builds(Cloud, name=NAMES, description=DESCRIPTIONS)


def regions() -> st.SearchStrategy[Region]:
    latencies = st.dictionaries(TEXTS, st.one_of(SECONDS, st.just(0.0)), max_size=3)
    return st.builds(
        Region,
        name=REGIONS,
        description=DESCRIPTIONS,
        client_latency_seconds=latencies.map(lambda told: tuple(sorted(told.items()))),
    )


def accelerator_kinds() -> st.SearchStrategy[AcceleratorKind]:
    return st.builds(
        AcceleratorKind,
        name=NAMES,
        vendor=DESCRIPTIONS,
        memory_bytes=BYTES,
        description=DESCRIPTIONS,
    )


def base_models() -> st.SearchStrategy[RegisteredModel]:
    return st.builds(
        RegisteredModel,
        name=NAMES,
        uri=NAMES.map("hf://{}/x".format),
        sha256=st.sampled_from(("", "0" * 64, "12e4" + "5" * 60)),
        weight_bytes=BYTES,
        description=DESCRIPTIONS,
    )


def terms_of_pools() -> st.SearchStrategy[PoolIntent]:
    terms = st.builds(
        PoolTerms,
        capacity_class=st.sampled_from(CapacityClass),
        price_per_accelerator_hour=st.one_of(st.none(), DOLLARS),
        cordoned=st.booleans(),
    )
    return st.builds(PoolIntent, pool=POOLS, terms=terms)


def prices() -> st.SearchStrategy[PriceIntent]:
    return st.builds(PriceIntent, pool=POOLS, valid_from=TIMES, price_per_accelerator_hour=DOLLARS)


def reservations() -> st.SearchStrategy[Reservation]:
    spans = st.lists(TIMES, min_size=2, max_size=2, unique=True).map(sorted)
    return spans.flatmap(
        lambda span: st.builds(
            Reservation,
            name=NAMES,
            pool=POOLS,
            price_per_accelerator_hour=DOLLARS,
            start_time=st.just(span[0]),
            end_time=st.just(span[1]),
            description=DESCRIPTIONS,
        )
    )


def cordons() -> st.SearchStrategy[CordonIntent]:
    names = {Scope.NODE: POOLS, Scope.POOL: POOLS, Scope.REGION: REGIONS}
    parts = st.sampled_from(Scope).flatmap(
        lambda scope: st.builds(Part, scope=st.just(scope), name=names.get(scope, NAMES))
    )
    return st.builds(CordonIntent, part=parts, reason=DESCRIPTIONS, draining=st.booleans())


def deployments() -> st.SearchStrategy[Deployment]:
    """What any engine serves; the techniques have tests of their own."""
    return NAMES.flatmap(_deployments_named)


def _deployments_named(name: str) -> st.SearchStrategy[Deployment]:
    engine = st.builds(
        EngineSpec,
        name=st.just(EngineName.SIMULATED),
        context_tokens=st.integers(1, 2**20),
        concurrent_requests=st.integers(1, 64),
        quantisation=st.builds(Quantisation, weights=st.one_of(st.none(), TEXTS)),
        prefix_caching=st.builds(
            PrefixCaching, enabled=st.booleans(), host_memory_bytes=st.one_of(st.none(), BYTES)
        ),
        options=st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda o: tuple(sorted(o.items()))),
    )
    shapes = st.lists(
        st.builds(
            ResourceShape,
            accelerator=TEXTS,
            accelerators=st.integers(1, 16),
            host_memory_bytes=BYTES,
            throughput_tokens_per_second=st.one_of(st.none(), st.floats(1e-3, 1e6)),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda shape: shape.accelerator,
    )
    revision = st.builds(
        Revision,
        number=st.just(1),
        base_model=st.just(BaseModel(uri="builtin://skerry-tiny", served_name=f"{name}-model")),
        engine=engine,
        shapes=shapes.map(tuple),
        objective=st.builds(ServiceObjective, ttft_seconds=SECONDS, tpot_seconds=SECONDS),
    )
    return st.builds(
        Deployment,
        name=st.just(name),
        labels=st.dictionaries(TEXTS, DESCRIPTIONS, max_size=3).map(
            lambda labels: tuple(sorted(labels.items()))
        ),
        revision=revision,
        scaling=_scalings(),
        policy=_policies(),
        routing=_routings(),
    )


def _scalings() -> st.SearchStrategy[Scaling]:
    return st.builds(
        lambda least, more, window, target, rest: Scaling(
            min_replicas=least,
            max_replicas=least + more,
            window_seconds=window,
            target_utilization=target,
            warm_spares=min(rest.pop("warm_spares"), more),
            **rest,
        ),
        st.integers(0, 9),
        st.integers(1, 9),
        st.floats(10.0, 3_600.0),
        st.floats(0.1, 1.0),
        st.fixed_dictionaries(
            {
                "warm_spares": st.integers(0, 9),
                "scale_down_delay_seconds": st.none() | st.floats(0.0, 3_600.0),
                "max_scale_down_rate": st.none() | st.floats(0.01, 1.0),
                "strategy": st.sampled_from(Strategy),
                "paused": st.booleans(),
                "schedules": st.lists(_schedules(), max_size=3).map(tuple),
            }
        ),
    )


def _schedules() -> st.SearchStrategy[FloorSchedule]:
    return st.builds(
        FloorSchedule,
        cron=st.sampled_from(("0 8 * * 1-5", "*/15 9-17 1,15 * *", "59 23 31 12 7")),
        seconds=st.floats(60.0, 7 * 86_400.0),
        min_replicas=st.integers(0, 1),
        time_zone=st.sampled_from(("UTC", "Europe/Berlin", "America/Los_Angeles")),
    )


def _routings() -> st.SearchStrategy[Routing]:
    return st.builds(
        Routing,
        policy=st.sampled_from(RoutingPolicy),
        continuation=st.booleans(),
        queue_requests_max=st.integers(0, 4_096),
        queue_seconds_max=st.floats(1e-6, 600.0),
    )


def _policies() -> st.SearchStrategy[PlacementPolicy]:
    domains = st.sampled_from(FailureDomain)
    texts = st.lists(TEXTS, max_size=2).map(tuple)
    return st.builds(
        PlacementPolicy,
        clouds=texts,
        regions=texts,
        residency_zones=texts,
        capacity_classes=st.sets(st.sampled_from([c.value for c in CapacityClass])).map(
            lambda chosen: tuple(sorted(chosen))
        ),
        spread=st.one_of(
            st.none(), st.builds(Spread, domain=domains, domains_min=st.integers(1, 9))
        ),
        tolerate=st.one_of(
            st.none(), st.builds(Tolerate, domain=domains, keep=st.floats(0.01, 1.0))
        ),
        priority=st.integers(0, 3),
        cost_per_hour_max=st.one_of(st.none(), st.floats(0.01, 1e6)),
        spot_share_max=st.one_of(st.none(), st.floats(0.0, 1.0)),
        latency=st.dictionaries(TEXTS, SECONDS, max_size=2).map(
            lambda told: tuple(
                LatencyLimit(client_region=region, seconds_max=seconds)
                for region, seconds in told.items()
            )
        ),
    )


def intents() -> st.SearchStrategy[Intent]:
    return st.one_of(
        clouds(),
        regions(),
        accelerator_kinds(),
        base_models(),
        terms_of_pools(),
        prices(),
        reservations(),
        cordons(),
    )


def objects() -> st.SearchStrategy[Object]:
    return st.one_of(intents(), deployments())
