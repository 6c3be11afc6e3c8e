"""Operators of the simulated world: what they change, through a control plane that may be deposed.

Every call has a request id, and an answer that is lost has the same call repeated, as the client
does. What is asked for, chances.py or a kept schedule says.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from control_plane.recovery.run import READ_ONLY
from control_plane.store.fencing import WriteContext
from control_plane.store.requests import Asked
from skerry.fleet.cordon import Cordon, Part, Scope
from skerry.fleet.deployment import Deployment
from skerry.fleet.pool import PoolTerms
from skerry.fleet.rollout import Halt, Rollout, Stage
from skerry.plumbing.errors import Infeasible, NotFound, SkerryError
from tests.builders import T0
from tests.simulation.control import Reign
from tests.simulation.fleets import GUEST, PRICES, PROFILES, poison_of, revised, scaled
from tests.simulation.world import World, pool_of

LOOK_SECONDS = (1.0, 3.0)
APPROVE_SECONDS = (4.0, 15.0)  # so long a recovery waits for people
REPEATS_MAX = 6
REPEAT_SECONDS = (0.2, 4.0)
ANSWER_LOST = 0.3
ACTOR = "people/ada"

Effect = Callable[[WriteContext], str]


@dataclass(slots=True)
class Operators:
    """Change what they are told to; `settle` undoes what would keep the fleet from its order."""

    world: World
    is_settled: bool = False
    _asked: Counter[str] = field(default_factory=Counter)  # calls, by kind
    _recovering: tuple[Reign | None, float] = (None, 0.0)  # who, since when

    def happen(self, what: str, told: Mapping[str, Any]) -> None:
        """Ask for one of CHANGES now."""
        CHANGES[what](self, **told)

    @property
    def _random(self) -> Random:
        return self.world.timeline.noise("people")

    def begin(self) -> None:
        """Begin to look after what waits for people, whatever else they do."""
        random, world = self._random, self.world
        world.timeline.after(random.uniform(*LOOK_SECONDS), self.begin)
        self._look_after(random)

    def _look_after(self, random: Random) -> None:
        """Approve a recovery that waits for people, and go on with rollouts that do."""
        world, leader = self.world, self.world.leader
        if leader is None or leader.reign is None or not leader.process.runs or world.store.down:
            return
        reign = leader.reign
        write = WriteContext(epoch=reign.term.epoch, actor=ACTOR, now=leader.clock.now())
        if not reign.recovery.is_under_way:
            for name, rollout in world.store.rows.rollouts.items():
                if _waits_for_people(rollout):
                    self.ask("resume", name, partial(_resume, world, name))
            return
        if self._recovering[0] is not reign:
            self._recovering = (reign, world.now)
        if world.now - self._recovering[1] > random.uniform(*APPROVE_SECONDS):
            asked = self._named("approve", "recovery")
            world.note("people", "approve the recovery")
            leader.process.spawn(reign.recovery.approve(write, asked, ""), lambda error: None)

    def ask(self, kind: str, body: str, effect: Effect) -> None:
        """Make a call, and repeat it while its answer does not come."""
        self._call(self._named(kind, body), effect, 0)

    def _named(self, kind: str, body: str) -> Asked:
        self._asked[kind] += 1
        return Asked(request_id=f"{kind} {self._asked[kind]}", kind=kind, body=body)

    def _call(self, asked: Asked, effect: Effect, attempt: int) -> None:
        world, random = self.world, self.world.timeline.noise(asked.request_id)
        leading = [c for c in world.controls.values() if c.process.runs and c.reign is not None]
        answered = False
        if leading and not world.store.down:
            # With two that believe to lead, the call may come to the one that was deposed.
            reign = random.choice(leading).reign
            assert reign is not None
            write = WriteContext(epoch=reign.term.epoch, actor=ACTOR, now=T0)
            try:
                if reign.loop.is_recovering:
                    raise Infeasible(READ_ONLY)
                done = world.store.operate(write, asked, lambda: effect(write))
                world.note("people", f"{asked.kind} {asked.body}: {'done' if done else 'repeat'}")
                answered = random.random() >= ANSWER_LOST
            except SkerryError as error:
                answered = not error.__class__.__name__.startswith(("Stale", "Unavailable"))
        if not answered and attempt < REPEATS_MAX and not self.is_settled:
            world.timeline.after(
                random.uniform(*REPEAT_SECONDS), lambda: self._call(asked, effect, attempt + 1)
            )

    def settle(self) -> None:
        """Lift cordons, end what was made for a while, and scale back to what fits.

        While a control plane recovers it takes no changes: then a moment later.
        """
        rows, leader = self.world.store.rows, self.world.leader
        if leader is None or leader.reign is None or not self._is_open(leader.reign):
            self.world.timeline.after(0.5, self.settle)
            return
        self.is_settled = True
        write = WriteContext(epoch=rows.epoch, actor=ACTOR, now=T0)
        rows.cordons.clear()
        for price, plane in zip(PRICES, self.world.planes.values(), strict=False):
            rows.terms.setdefault(plane.pool, PoolTerms(price_per_accelerator_hour=price))
        if self.world.fleet.loaded:
            rows.profiles = PROFILES
        for deployment in self.world.fleet.deployments:
            self.world.changed(deployment.name)
            self.world.store.put_deployment(self._mended(deployment))
        if GUEST.name in rows.deployments:
            self.world.store.put_deployment(GUEST, deleting=True)
            self.world.changed(GUEST.name)
        self.world.store.note(write, "people.settle", "-")

    def _is_open(self, reign: Reign) -> bool:
        """Say whether it takes changes: it has looked at what planes hold, and they at it."""
        seen, world = reign.loop.seen is not None, self.world
        return seen and not reign.loop.is_recovering and reign.links.keys() == world.planes.keys()

    def _mended(self, asked: Deployment) -> Deployment:
        """Return the deployment with its first bounds, at a revision that serves."""
        store, name = self.world.store, asked.name
        held, rollout = store.rows.deployments.get(name), store.rows.rollouts.get(name)
        if held is None:
            return revised(asked, store.numbered(name))
        revision = held.deployment.revision
        went_back = rollout is not None and rollout.stage is Stage.ROLLED_BACK
        if poison_of(revision.engine) and not (went_back and self._random.random() < 0.7):
            return revised(asked, store.numbered(name))
        return replace(asked, revision=revision)


def _prices(people: Operators, prices: Mapping[str, float]) -> None:
    """New prices, by plane."""
    world = people.world

    def effect(_: WriteContext) -> str:
        for plane, price in prices.items():
            terms = PoolTerms(price_per_accelerator_hour=price)
            world.store.rows.terms[pool_of(plane)] = terms
        return "prices"

    people.ask("set-terms", str(dict(prices)), effect)


def _scale(people: Operators, deployment: str, least: int, most: int) -> None:
    world = people.world

    def effect(_: WriteContext) -> str:
        held = wanted_of(world, deployment)
        world.changed(deployment)
        return world.store.put_deployment(scaled(held, least, most))

    people.ask("apply", f"{deployment} {least}..{most}", effect)


def _guest(people: Operators, deletes: bool) -> None:
    """Make a deployment for a while, or delete it."""
    world = people.world

    def effect(_: WriteContext) -> str:
        world.changed(GUEST.name)
        held = world.store.rows.deployments.get(GUEST.name)
        if held is not None:
            deleting = deletes or held.deleting
            return world.store.put_deployment(held.deployment, deleting=deleting)
        if deletes:
            raise NotFound(f"deployment {GUEST.name!r} does not exist")
        number = world.store.numbered(GUEST.name)
        return world.store.put_deployment(revised(GUEST, number))

    people.ask("delete" if deletes else "apply", GUEST.name, effect)


def _cordon(people: Operators, scope: str, name: str, draining: bool, lifts: bool) -> None:
    store = people.world.store

    def effect(_: WriteContext) -> str:
        part = Part(scope=Scope(scope), name=name)
        cordon = Cordon(part=part, actor=ACTOR, reason="", since=T0, draining=draining)
        if lifts:
            store.rows.cordons.pop(name, None)
        else:
            store.rows.cordons[name] = cordon
        return name

    kind = "uncordon" if lifts else "drain" if draining else "cordon"
    people.ask(kind, f"{scope}/{name}", effect)


def _failover(people: Operators, plane: str) -> None:
    store = people.world.store
    people.ask("failover", plane, lambda write: store.declare_lost(write, plane))


def _revise(people: Operators, deployment: str, poison: str) -> None:
    """A new revision, good or one that fails as `poison` says."""
    world = people.world

    def effect(_: WriteContext) -> str:
        held, number = wanted_of(world, deployment), world.store.numbered(deployment)
        return world.store.put_deployment(revised(held, number, poison))

    people.ask("revise", f"{deployment} {poison or 'good'}", effect)


def _waits_for_people(rollout: Rollout) -> bool:
    """Say whether a recovery halted it, or planes that went down while they got the revision."""
    halted_by_falls = rollout.halt is Halt.FAILURE and rollout.fells_planes
    return rollout.halt is Halt.OPERATOR or halted_by_falls


def _resume(world: World, name: str, write: WriteContext) -> str:
    rollout = world.store.rows.rollouts.get(name)
    if rollout is None or not _waits_for_people(rollout):
        raise Infeasible(f"the rollout of {name!r} does not wait for anybody")
    return world.store.resume_rollout(write, name)


def wanted_of(world: World, name: str) -> Deployment:
    """Return a deployment as it is wanted; NotFound or Infeasible as the store says it."""
    held = world.store.rows.deployments.get(name)
    if held is None:
        raise NotFound(f"deployment {name!r} does not exist")
    if held.deleting:
        raise Infeasible(f"deployment {name!r} is being deleted")
    return held.deployment


CHANGES: dict[str, Callable[..., None]] = {
    "cordon": _cordon,
    "failover": _failover,
    "guest": _guest,
    "prices": _prices,
    "revise": _revise,
    "scale": _scale,
}
