"""Requests of what-if and survival questions as the scheduler's values, each fault with its path.

`operator_service.py` calls it; whether the names exist is for whoever holds the fleet to say.
"""

import math
from collections.abc import Iterator, Sequence

from control_plane.api.validation import check_pool_id, refuse, terms_of
from scheduler.whatif import Change, DemandFactor, Lose, NewPools, PriceFactor
from skerry.api.operator.v1 import question_pb2
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.names import NAME_CHARACTERS_MAX, InvalidName, check_name
from skerry.fleet.pool import Pool
from skerry.plumbing.errors import FieldViolation, InvalidInput
from skerry.wire.supply import identity_from_proto, pool_shape_from_proto

CHANGES_MAX = 16  # a story of what happens at once, not a script
FACTOR_MAX = 1_000_000.0  # past any market and any load: a typing error
DOMAIN_NAME_CHARACTERS_MAX = 128  # CLOUD/REGION


def changes_of(messages: Sequence[question_pb2.Hypothesis]) -> tuple[Change, ...]:
    """Return the changes of a what-if question; InvalidInput names every field at fault."""
    what = "the question cannot be asked"
    if not 1 <= len(messages) <= CHANGES_MAX:
        raise InvalidInput(
            f"{what}: {len(messages)} changes; give 1 to {CHANGES_MAX}", field="changes"
        )
    faults = [
        fault
        for index, message in enumerate(messages)
        for fault in _faults_of(message, f"changes[{index}]")
    ]
    refuse(what, tuple(faults))
    return tuple(_change_of(message, f"changes[{index}]") for index, message in enumerate(messages))


def domains_of(names: Sequence[str]) -> tuple[FailureDomain, ...]:
    """Return the kinds of domains asked about, all of them when none is named."""
    faults = [
        fault
        for index, name in enumerate(names[: CHANGES_MAX + 1])
        for fault in _domain_faults(name, f"domains[{index}]")
    ]
    refuse("the question cannot be asked", tuple(faults))
    return tuple(domain for domain in FailureDomain if domain in names or not names)


def _faults_of(message: question_pb2.Hypothesis, where: str) -> Iterator[FieldViolation]:
    match message.WhichOneof("change"):
        case "lose":
            yield from _domain_faults(message.lose.domain, f"{where}.lose.domain")
            name = message.lose.name
            if not (0 < len(name) <= DOMAIN_NAME_CHARACTERS_MAX and name.isprintable()):
                text = "must be PLANE, CLOUD/REGION or CLOUD"
                yield FieldViolation(path=f"{where}.lose.name", message=text)
        case "price":
            yield from _factor_faults(message.price.factor, f"{where}.price.factor")
            if message.price.pool:
                yield from _pool_faults(message.price.pool, f"{where}.price.pool")
        case "demand":
            yield from _factor_faults(message.demand.factor, f"{where}.demand.factor")
            if message.demand.deployment:
                try:
                    check_name(message.demand.deployment, "deployment")
                except InvalidName as error:
                    yield FieldViolation(path=f"{where}.demand.deployment", message=str(error))
        case "pool":
            pass  # the fleet's own invariants say what is wrong with it
        case _:
            yield FieldViolation(path=where, message="say one of lose, price, demand or pool")


def _domain_faults(name: str, where: str) -> Iterator[FieldViolation]:
    if name not in tuple(FailureDomain):
        shown = ascii(name[:63])
        text = f"{shown} is none of {', '.join(FailureDomain)}"
        yield FieldViolation(path=where, message=text)


def _factor_faults(factor: float, where: str) -> Iterator[FieldViolation]:
    if not (math.isfinite(factor) and 0.0 <= factor <= FACTOR_MAX):
        text = f"{factor} must be a number from 0 to {FACTOR_MAX:g}; 1 changes nothing"
        yield FieldViolation(path=where, message=text)


def _pool_faults(name: str, where: str) -> Iterator[FieldViolation]:
    try:
        check_pool_id(name, where)
    except InvalidInput as error:
        yield FieldViolation(path=where, message=error.message)


def _change_of(message: question_pb2.Hypothesis, where: str) -> Change:
    match message.WhichOneof("change"):
        case "lose":
            return Lose(domain=FailureDomain(message.lose.domain), name=message.lose.name)
        case "price":
            return PriceFactor(factor=message.price.factor, pool=message.price.pool or None)
        case "demand":
            deployment = message.demand.deployment or None
            return DemandFactor(factor=message.demand.factor, deployment=deployment)
        case _:
            return NewPools(pools=(_pool_of(message.pool, f"{where}.pool"),))


def _pool_of(message: question_pb2.NewPool, where: str) -> Pool:
    if not message.terms.HasField("price_per_accelerator_hour"):
        raise InvalidInput(
            f"{where}.terms: say its price; nothing is placed where none is told",
            field=f"{where}.terms.price_per_accelerator_hour",
        )
    for field in ("cloud", "region"):
        told = getattr(message.plane, field)
        if not (0 < len(told) <= NAME_CHARACTERS_MAX and told.isprintable()):
            text = f"must be 1 to {NAME_CHARACTERS_MAX} printable characters"
            path = f"{where}.plane.{field}"
            raise InvalidInput(f"{path}: {text}", field=path)
    try:
        pool = Pool(
            plane=identity_from_proto(message.plane),
            shape=pool_shape_from_proto(message.shape),
            terms=terms_of(message.terms, f"{where}.terms"),
        )
        check_pool_id(pool.name, where)
    except ValueError as error:
        raise InvalidInput(f"{where}: {error}", field=where) from None
    return pool
