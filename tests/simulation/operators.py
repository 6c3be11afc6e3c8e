"""Operators of the simulated world: what they change, through a control plane that may be deposed.

Every call has a request id, and an answer that is lost has the same call repeated, as the client
does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from control_plane.recovery.run import READ_ONLY
from control_plane.store.fencing import WriteContext
from control_plane.store.requests import Asked
from skerry.fleet.cordon import Cordon, Part, Scope
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import pool_name
from skerry.fleet.observation import PlaneState
from skerry.fleet.pool import PoolTerms
from skerry.fleet.rollout import Halt, Stage
from skerry.plumbing.errors import Infeasible, NotFound, SkerryError
from tests.builders import T0
from tests.simulation.control import Reign
from tests.simulation.fleets import (
    GUEST,
    HANG,
    PRICES,
    SOAK,
    START,
    poison_of,
    revised,
    scaled,
)
from tests.simulation.plane import NODES
from tests.simulation.world import World, pool_of

PERIOD_SECONDS = (3.0, 14.0)
LOOK_SECONDS = (1.0, 3.0)
APPROVE_SECONDS = (4.0, 15.0)  # so long a recovery waits for people
REPEATS_MAX = 6
REPEAT_SECONDS = (0.2, 4.0)
ANSWER_LOST = 0.3
POISONED = 0.4  # of new revisions
ACTOR = "people/ada"

Effect = Callable[[WriteContext], str]


@dataclass(slots=True)
class Operators:
    """Change things until `end`; `settle` undoes what would keep the fleet from its order."""

    world: World
    end: float
    kinds: tuple[str, ...] = ()  # of faults in this world
    is_settled: bool = False
    _serial: int = 0
    _recovering: tuple[Reign | None, float] = (None, 0.0)  # who, since when
    scales: dict[str, tuple[int, int]] = field(default_factory=dict)

    def begin(self) -> None:
        """Start."""
        world = self.world
        world.timeline.after(world.random.uniform(*PERIOD_SECONDS), self._next)
        if not self._serial:
            self._look_after()

    def _look_after(self) -> None:
        """Approve a recovery that waits for people, and go on with rollouts that it halted."""
        world, random = self.world, self.world.random
        leader = world.leader
        world.timeline.after(random.uniform(*LOOK_SECONDS), self._look_after)
        if leader is None or leader.reign is None or not leader.process.runs or world.store.down:
            return
        reign = leader.reign
        write = WriteContext(epoch=reign.term.epoch, actor=ACTOR, now=leader.clock.now())
        if not reign.recovery.is_under_way:
            for name, rollout in world.store.rows.rollouts.items():
                if rollout.halt is Halt.OPERATOR:
                    self.ask("resume", name, partial(_resume, world, name))
            return
        if self._recovering[0] is not reign:
            self._recovering = (reign, world.now)
        if world.now - self._recovering[1] > random.uniform(*APPROVE_SECONDS):
            self._serial += 1
            request_id = f"{world.seed}-{self._serial}"
            asked = Asked(request_id=request_id, kind="approve", body="recovery")
            world.note("people", "approve the recovery")
            leader.process.spawn(reign.recovery.approve(write, asked, ""), lambda error: None)

    def _next(self) -> None:
        if self.world.now >= self.end:
            return
        change = self.world.random.choice(CHANGES)
        change(self)
        self.begin()

    def ask(self, kind: str, body: str, effect: Effect) -> None:
        """Make a call, and repeat it while its answer does not come."""
        self._serial += 1
        asked = Asked(request_id=f"{self.world.seed}-{self._serial}", kind=kind, body=body)
        self._call(asked, effect, 0)

    def _call(self, asked: Asked, effect: Effect, attempt: int) -> None:
        world, random = self.world, self.world.random
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
        if poison_of(revision.engine) and not (went_back and self.world.random.random() < 0.7):
            return revised(asked, store.numbered(name))
        return replace(asked, revision=revision)


def _prices(people: Operators) -> None:
    world = people.world
    prices = list(PRICES[: len(world.planes)])
    world.random.shuffle(prices)
    told = dict(zip(sorted(world.planes), prices, strict=True))

    def effect(_: WriteContext) -> str:
        for plane, price in told.items():
            terms = PoolTerms(price_per_accelerator_hour=price)
            world.store.rows.terms[pool_of(plane)] = terms
        return "prices"

    people.ask("set-terms", str(prices), effect)


def _scale(people: Operators) -> None:
    world = people.world
    wanted = world.random.choice(world.fleet.deployments)
    least = wanted.scaling.min_replicas + world.random.choice((-1, 0, 1))
    most = max(least, wanted.scaling.max_replicas + world.random.choice((-1, 0, 1)))

    def effect(_: WriteContext) -> str:
        held = wanted_of(world, wanted.name)
        world.changed(wanted.name)
        return world.store.put_deployment(scaled(held, max(1, least), max(1, most)))

    people.ask("apply", f"{wanted.name} {least}..{most}", effect)


def _guest(people: Operators) -> None:
    world = people.world
    there = GUEST.name in world.store.rows.deployments

    def effect(_: WriteContext) -> str:
        world.changed(GUEST.name)
        held = world.store.rows.deployments.get(GUEST.name)
        if held is not None:
            return world.store.put_deployment(held.deployment, deleting=there or held.deleting)
        if there:
            raise NotFound(f"deployment {GUEST.name!r} does not exist")
        number = world.store.numbered(GUEST.name)
        return world.store.put_deployment(revised(GUEST, number))

    people.ask("delete" if there else "apply", GUEST.name, effect)


def _cordon(people: Operators) -> None:
    world, random = people.world, people.world.random
    plane = random.choice(sorted(world.planes))
    scope = random.choice((Scope.PLANE, Scope.POOL, Scope.NODE))
    name = {
        Scope.PLANE: plane,
        Scope.POOL: pool_of(plane),
        Scope.NODE: pool_name(plane, f"n{random.randrange(NODES)}"),
    }[scope]
    draining = random.random() < 0.7
    cordons = world.store.rows.cordons
    if len(cordons) >= 2:
        name = min(cordons)
        scope = cordons[name].part.scope
    lift = name in cordons

    def effect(_: WriteContext) -> str:
        cordon = Cordon(
            part=Part(scope=scope, name=name), actor=ACTOR, reason="", since=T0, draining=draining
        )
        if lift:
            world.store.rows.cordons.pop(name, None)
        else:
            world.store.rows.cordons[name] = cordon
        return name

    kind = "uncordon" if lift else "drain" if draining else "cordon"
    people.ask(kind, f"{scope.value}/{name}", effect)


def _failover(people: Operators) -> None:
    world = people.world
    away = [
        name
        for name, condition in sorted(world.conditions().items())
        if condition.state in (PlaneState.SUSPECT, PlaneState.DISCONNECTED)
    ]
    if away:
        plane = world.random.choice(away)
        people.ask("failover", plane, lambda write: world.store.declare_lost(write, plane))


def _revise(people: Operators) -> None:
    """A new revision; now and then one that fails, of a deployment that has an earlier one."""
    world, random = people.world, people.world.random
    wanted = random.choice(world.fleet.deployments)
    rollout = world.store.rows.rollouts.get(wanted.name)
    fails = rollout is not None and rollout.stable and random.random() < POISONED
    poison = random.choice((START, HANG, SOAK)) if fails else ""

    def effect(_: WriteContext) -> str:
        held, number = wanted_of(world, wanted.name), world.store.numbered(wanted.name)
        return world.store.put_deployment(revised(held, number, poison))

    people.ask("revise", f"{wanted.name} {poison or 'good'}", effect)


def _resume(world: World, name: str, write: WriteContext) -> str:
    rollout = world.store.rows.rollouts.get(name)
    if rollout is None or rollout.halt is not Halt.OPERATOR:
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


CHANGES = (_prices, _scale, _guest, _cordon, _cordon, _failover, _revise, _revise)
