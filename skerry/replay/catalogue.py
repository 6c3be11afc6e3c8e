"""The policies by name, made for a fleet from the operator's factors, and the reference engine.

`skerry simulate` and the benchmark take them from here. How full replicas are to be is the factors'
`target_utilization` for all of them, in the measure that each goes by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy
from skerry.fleet.coefficients import Coefficients
from skerry.replay.arrivals import Arrivals
from skerry.replay.policies import Silo, TwoLevel
from skerry.replay.published import (
    DynamoLike,
    KnativeKpa,
    KubernetesHpa,
    RayServe,
    Scaler,
    Siloed,
    SkyServe,
)
from skerry.replay.world import FleetModel, Policy

# Fitted by `skerry.fleet.coefficients.fit` to NVIDIA's published table of Llama 3.3 70B in FP8 on
# two H100 (NIM 1.8.0; 5,000 tokens in, 500 out, 1 to 50 at once). In BF16 on four, a token reads
# as many bytes of weights per accelerator and takes as long to compute.
REFERENCE = Coefficients(
    accelerator="H100-80G",
    prefill_seconds_per_token=7.77e-5,
    decode_seconds_per_token=7.24e-5,
    iteration_seconds=0.01819,
)
POOLED, LOCAL, FIVE = "two levels, pooled", "token-work, local loop", "five factors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """For whom a policy is made: the fleet, the factors, what a request costs on average."""

    fleet: FleetModel
    factors: ScalingFactors
    request_seconds: float

    @property
    def in_flight(self) -> float:
        """Return how many requests in flight fill a replica as far as it is to be filled."""
        return self.factors.concurrency_target * self.factors.target_utilization


def _in_flight(name: str, make: Callable[[float], Scaler]) -> Callable[[Wanted], Policy]:
    return lambda one: Siloed(one.fleet, lambda: make(one.in_flight), name)


def _sky(one: Wanted) -> Policy:
    rate = one.factors.target_utilization / one.request_seconds
    return Siloed(one.fleet, lambda: SkyServe(rate), "SkyServe")


def _dynamo(one: Wanted) -> Policy:
    engine, utilization = one.fleet.engine, one.factors.target_utilization
    return Siloed(one.fleet, lambda: DynamoLike(engine, utilization), "Dynamo-like")


def _five(one: Wanted) -> Policy:
    # As published: no floor by the time of day.
    factors = replace(one.factors, strategy=Strategy.CONCURRENCY, schedules=())
    return Silo(one.fleet, factors, name=FIVE)


POLICIES: Mapping[str, Callable[[Wanted], Policy]] = {
    POOLED: lambda one: TwoLevel(one.fleet, one.factors, name=POOLED),
    LOCAL: lambda one: Silo(one.fleet, one.factors, name=LOCAL),
    FIVE: _five,
    "KPA": _in_flight("KPA", KnativeKpa),
    "HPA": _in_flight("HPA", KubernetesHpa),
    "Ray Serve": _in_flight("Ray Serve", RayServe),
    "SkyServe": _sky,
    "Dynamo-like": _dynamo,
}


def request_seconds(arrivals: Arrivals, fleet: FleetModel) -> float:
    """Return what a request costs a full replica on average, in seconds."""
    engine = fleet.engine
    return engine.coefficients.work_seconds(
        float(arrivals.prompt.mean()), float(arrivals.output.mean()), engine.batch
    )
