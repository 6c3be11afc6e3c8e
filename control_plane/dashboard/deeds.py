"""What an operator can do here: for each action its fields, what it would do, and doing it.

`actions.py` asks and confirms. Every call is the operator API's own, with the reason told.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType

from control_plane.dashboard.plans import number_of
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.operations import DrainRow, FailoverRow, Move
from skerry.client.rows import PlanPreview
from skerry.plumbing.errors import InvalidInput

Form = Mapping[str, str]
REPLICAS_MAX = 10_000
LINES_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of an action's form."""

    name: str
    label: str
    hint: str = ""
    is_needed: bool = True
    is_flag: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """An action: the method whose door decides, its form, the dry run and the run."""

    title: str
    says: str
    method: str
    fields: tuple[Field, ...]
    preview: Callable[[AsyncOperatorClient, Form], Awaitable[tuple[str, ...]]]
    run: Callable[[AsyncOperatorClient, Form], Awaitable[str]]
    is_grave: bool = False

    def missing(self, form: Form) -> tuple[str, ...]:
        """Return the labels of the fields that are needed and empty."""
        return tuple(f.label for f in self.fields if f.is_needed and not form.get(f.name))


_PART = Field(
    name="part",
    label="Part of the fleet",
    hint="planes/NAME, regions/CLOUD/REGION, clouds/NAME or nodes/PLANE--NODE",
)
_DEPLOYMENT = Field(name="deployment", label="Deployment")


def planes_in(form: Form) -> frozenset[str]:
    """Return the planes that a form names, as the door reads them from the request."""
    kind, _, name = form.get("part", "").partition("/")
    if kind == "planes" and name:
        return frozenset({name})
    if kind in ("nodes", "pools") and name:
        return frozenset({name.partition("--")[0]})
    return frozenset()


async def _say_cordon(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    return (f"Nothing new is placed in {form['part']}; what runs there goes on.",)


async def _cordon(client: AsyncOperatorClient, form: Form) -> str:
    is_new = await client.cordon(form["part"], cordoned=True)
    return f"{form['part']} is cordoned{'' if is_new else ', as it was'}"


async def _say_uncordon(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    return (f"{form['part']} takes replicas again; a drain of it ends where it is.",)


async def _uncordon(client: AsyncOperatorClient, form: Form) -> str:
    is_new = await client.cordon(form["part"], cordoned=False)
    return f"{form['part']} {'takes replicas again' if is_new else 'was not cordoned'}"


async def _first_of_drain(
    client: AsyncOperatorClient, part: str, *, validate_only: bool
) -> DrainRow:
    async with aclosing(client.drain(part, validate_only=validate_only)) as rows:
        async for row in rows:
            return row
    raise InvalidInput(f"nothing is known of a drain of {part}")


async def _say_drain(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    row = await _first_of_drain(client, form["part"], validate_only=True)
    lines = [
        f"{row.replicas_left} replicas leave {form['part']}, each after its replacement is ready."
    ]
    lines += [
        f"{one.deployment}: {one.replicas_left} of {one.replicas_wanted} are there,"
        f" {one.replicas_ready_elsewhere} ready elsewhere"
        for one in row.deployments[:LINES_MAX]
    ]
    return (*lines, *(f"It will wait: {reason}" for reason in row.waits_for[:LINES_MAX]))


async def _drain(client: AsyncOperatorClient, form: Form) -> str:
    # It goes on without whoever asked; the page of the part shows how far it is.
    row = await _first_of_drain(client, form["part"], validate_only=False)
    return f"{form['part']}: {row.state.value}, {row.replicas_left} replicas left"


async def _failover(client: AsyncOperatorClient, form: Form, *, validate_only: bool) -> FailoverRow:
    return await client.failover(
        form["part"],
        even_if_serving=form.get("even_if_serving") == "yes",
        validate_only=validate_only,
    )


async def _say_failover(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    row = await _failover(client, form, validate_only=True)
    lines = [f"Declared lost: {', '.join(row.planes) or 'none'}. Their replicas start elsewhere."]
    if row.heard:
        lines.append(f"Heard, so not lost: {', '.join(row.heard)}")
    if row.lost_before:
        lines.append(f"Lost already: {', '.join(row.lost_before)}")
    return tuple(lines)


async def _do_failover(client: AsyncOperatorClient, form: Form) -> str:
    row = await _failover(client, form, validate_only=False)
    return f"declared lost: {', '.join(row.planes) or 'none'}"


def _move_of(form: Form) -> Move:
    told = form.get("replicas") or "1"
    if not told.isdecimal() or not 1 <= int(told[:9]) <= REPLICAS_MAX:
        raise InvalidInput(f"replicas must be 1 to {REPLICAS_MAX}")
    return Move(
        deployment=form["deployment"],
        from_pool=form["from_pool"],
        to_pool=form["to_pool"],
        replicas=int(told),
    )


async def _say_move(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    return lines_of(await client.move_replica(_move_of(form), validate_only=True))


async def _move(client: AsyncOperatorClient, form: Form) -> str:
    move = _move_of(form)
    await client.move_replica(move)
    return f"{move.replicas} of {move.deployment} move from {move.from_pool} to {move.to_pool}"


def _revision_of(form: Form) -> int:
    told = form.get("revision") or "0"
    if not told.isdecimal() or len(told) > 9:
        raise InvalidInput("revision must be a number; empty: the one before")
    return int(told)


async def _say_rollback(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    row = await client.get_deployment(form["deployment"])
    wanted = _revision_of(form)
    back = f"revision {wanted}" if wanted else "the revision before"
    present = row.deployment.revision.number
    return (f"{row.name} goes from revision {present} to {back}, plane by plane.",)


async def _rollback(client: AsyncOperatorClient, form: Form) -> str:
    row = await client.rollback(form["deployment"], _revision_of(form))
    return f"{row.name} goes back: it is revision {row.deployment.revision.number} now"


async def _say_pause(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    row = await client.get_deployment(form["deployment"])
    return (f"{row.name} keeps its {row.replicas_wanted} replicas whatever the load is.",)


async def _pause(client: AsyncOperatorClient, form: Form) -> str:
    return f"{(await client.pause_scaling(form['deployment'])).name} keeps its replicas"


async def _say_resume(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    row = await client.get_deployment(form["deployment"])
    return (f"{row.name} follows its load again, within its bounds.",)


async def _resume(client: AsyncOperatorClient, form: Form) -> str:
    return f"{(await client.resume_scaling(form['deployment'])).name} follows its load again"


async def _say_steer(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    row = await client.get_rollout(form["deployment"])
    return (f"The rollout of {row.name} to revision {row.revision} is {row.state} now.",)


def _steer(action: str) -> Callable[[AsyncOperatorClient, Form], Awaitable[str]]:
    async def run(client: AsyncOperatorClient, form: Form) -> str:
        row = await client.steer_rollout(form["deployment"], action)
        return f"the rollout of {row.name} is {row.state} now"

    return run


async def _say_plan(client: AsyncOperatorClient, form: Form) -> tuple[str, ...]:
    return lines_of(await client.get_plan(number_of(form["plan"])))


def _settle(approved: bool) -> Callable[[AsyncOperatorClient, Form], Awaitable[str]]:
    async def run(client: AsyncOperatorClient, form: Form) -> str:
        row = await client.settle_plan(number_of(form["plan"]), approved=approved)
        return f"plan {row.name} is {row.state}"

    return run


def lines_of(plan: PlanPreview) -> tuple[str, ...]:
    """Return in lines what a plan changes."""
    before, after = plan.cost_per_hour_before, plan.cost_per_hour_after
    lines = [f"Cost per hour: ${before:,.2f} now, ${after:,.2f} after"]
    moves = [move for one in plan.deployments for move in one.moves]
    lines += [
        f"{move.replicas} of {move.deployment}: {move.from_pool} to {move.to_pool}"
        for move in moves[:LINES_MAX]
    ]
    changed = [row for row in plan.placements if row.replicas_before != row.replicas_after]
    lines += [
        f"{row.deployment} on {row.pool}: {row.replicas_before} now, {row.replicas_after} after"
        for row in changed[:LINES_MAX]
    ]
    hidden = max(0, len(moves) - LINES_MAX) + max(0, len(changed) - LINES_MAX)
    lines += [
        f"{one.replicas} of {one.deployment} find no place: {one.reason}"
        for one in plan.unplaced[:LINES_MAX]
    ]
    return (*lines, f"and {hidden} lines more") if hidden else tuple(lines)


def _of_parts() -> dict[str, Deed]:
    serving = Field(
        name="even_if_serving",
        label="Also planes that peers see serving",
        is_needed=False,
        is_flag=True,
    )
    return {
        "cordon": Deed(
            title="Cordon",
            says="Nothing new is placed in a part of the fleet.",
            method="CatalogueService/Cordon",
            fields=(_PART,),
            preview=_say_cordon,
            run=_cordon,
        ),
        "uncordon": Deed(
            title="Uncordon",
            says="A part takes replicas again.",
            method="CatalogueService/Uncordon",
            fields=(_PART,),
            preview=_say_uncordon,
            run=_uncordon,
        ),
        "drain": Deed(
            title="Drain",
            says="Cordon a part, move what runs there, then leave it empty.",
            method="OperationsService/Drain",
            fields=(_PART,),
            preview=_say_drain,
            run=_drain,
            is_grave=True,
        ),
        "failover": Deed(
            title="Fail over",
            says="Declare silent planes lost, so that others take their replicas.",
            method="OperationsService/Failover",
            fields=(_PART, serving),
            preview=_say_failover,
            run=_do_failover,
            is_grave=True,
        ),
    }


def _of_deployments() -> dict[str, Deed]:
    pools = (
        Field(name="from_pool", label="From pool", hint="PLANE--POOL"),
        Field(name="to_pool", label="To pool", hint="PLANE--POOL"),
        Field(name="replicas", label="Replicas", hint="1 unless told", is_needed=False),
    )
    revision = Field(
        name="revision", label="Revision", hint="empty: the one before", is_needed=False
    )
    plain = {
        "pause-scaling": ("Pause scaling", "Keep a number of replicas.", _say_pause, _pause),
        "resume-scaling": ("Resume scaling", "Follow the load again.", _say_resume, _resume),
    }
    return {
        "move": Deed(
            title="Move replicas",
            says="Replicas go from one pool to another, the new ready first.",
            method="OperationsService/MoveReplica",
            fields=(_DEPLOYMENT, *pools),
            preview=_say_move,
            run=_move,
        ),
        "rollback": Deed(
            title="Roll back",
            says="Make an earlier revision the present one.",
            method="OperatorService/RollbackDeployment",
            fields=(_DEPLOYMENT, revision),
            preview=_say_rollback,
            run=_rollback,
            is_grave=True,
        ),
        **{
            verb: Deed(
                title=title,
                says=says,
                method="OperatorService/UpdateDeployment",
                fields=(_DEPLOYMENT,),
                preview=preview,
                run=run,
            )
            for verb, (title, says, preview, run) in plain.items()
        },
        **{
            f"{action}-rollout": Deed(
                title=f"{action.capitalize()} rollout",
                says=says,
                method="OperationsService/SteerRollout",
                fields=(_DEPLOYMENT,),
                preview=_say_steer,
                run=_steer(action),
                is_grave=action == "undo",
            )
            for action, says in (
                ("pause", "Start the new revision nowhere else for now."),
                ("resume", "Let a paused rollout go on."),
                ("undo", "Take the new revision back everywhere."),
            )
        },
    }


def _of_plans() -> dict[str, Deed]:
    plan = Field(name="plan", label="Plan", hint="its number")
    return {
        verb: Deed(
            title=f"{verb.capitalize()} plan",
            says=says,
            method=f"OperatorService/{verb.capitalize()}Plan",
            fields=(plan,),
            preview=_say_plan,
            run=_settle(verb == "approve"),
            is_grave=verb == "approve",
        )
        for verb, says in (
            ("approve", "Put a plan that waits in force."),
            ("reject", "Leave things as they are until something else changes."),
        )
    }


DEEDS: Mapping[str, Deed] = MappingProxyType({**_of_parts(), **_of_deployments(), **_of_plans()})
