"""Operators of the simulated world: what they change, through a control plane that may be deposed.

Every call has a request id, and an answer that is lost has the same call repeated, as the client
does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from control_plane.store.fencing import WriteContext
from control_plane.store.requests import Asked
from skerry.fleet.cordon import Cordon, Part, Scope
from skerry.fleet.names import pool_name
from skerry.fleet.observation import PlaneState
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import SkerryError
from tests.builders import T0
from tests.simulation.fleets import GUEST, PRICES, scaled
from tests.simulation.plane import NODES
from tests.simulation.world import World, pool_of

PERIOD_SECONDS = (3.0, 14.0)
REPEATS_MAX = 6
REPEAT_SECONDS = (0.2, 4.0)
ANSWER_LOST = 0.3
ACTOR = "people/ada"

Effect = Callable[[WriteContext], str]


@dataclass(slots=True)
class Operators:
    """Change things until `end`; `settle` undoes what would keep the fleet from its order."""

    world: World
    end: float
    kinds: tuple[str, ...] = ()  # of faults in this world
    _serial: int = 0
    scales: dict[str, tuple[int, int]] = field(default_factory=dict)

    def begin(self) -> None:
        """Start."""
        world = self.world
        world.timeline.after(world.random.uniform(*PERIOD_SECONDS), self._next)

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
                done = world.store.operate(write, asked, lambda: effect(write))
                world.note("people", f"{asked.kind} {asked.body}: {'done' if done else 'repeat'}")
                answered = random.random() >= ANSWER_LOST
            except SkerryError as error:
                answered = not error.__class__.__name__.startswith(("Stale", "Unavailable"))
        if not answered and attempt < REPEATS_MAX:
            world.timeline.after(
                random.uniform(*REPEAT_SECONDS), lambda: self._call(asked, effect, attempt + 1)
            )

    def settle(self) -> None:
        """Lift cordons, end what was made for a while, and scale back to what fits."""
        rows = self.world.store.rows
        write = WriteContext(epoch=rows.epoch, actor=ACTOR, now=T0)
        rows.cordons.clear()
        for deployment in self.world.fleet.deployments:
            self.world.store.put_deployment(deployment)
            self.world.changed(deployment.name)
        if GUEST.name in rows.deployments:
            self.world.store.put_deployment(GUEST, deleting=True)
            self.world.changed(GUEST.name)
        self.world.store.note(write, "people.settle", "-")


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
        world.changed(wanted.name)
        return world.store.put_deployment(scaled(wanted, max(1, least), max(1, most)))

    people.ask("apply", f"{wanted.name} {least}..{most}", effect)


def _guest(people: Operators) -> None:
    world = people.world
    if "torn-file" in people.kinds:
        return  # finding H6-5: a copy of before its deletion starts it again, and nobody ends it
    there = GUEST.name in world.store.rows.deployments

    def effect(_: WriteContext) -> str:
        world.changed(GUEST.name)
        return world.store.put_deployment(GUEST, deleting=there)

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
    world = people.world
    wanted = world.random.choice(world.fleet.deployments)
    held = world.store.rows.deployments.get(wanted.name)
    if held is None or held.deleting:
        return
    deployment = held.deployment
    number = deployment.revision.number + 1
    revised = replace(deployment, revision=replace(deployment.revision, number=number))

    def effect(_: WriteContext) -> str:
        world.changed(wanted.name)
        return world.store.put_deployment(revised)

    people.ask("apply", f"{wanted.name} r{number}", effect)


CHANGES = (_prices, _prices, _scale, _guest, _cordon, _cordon, _failover)
