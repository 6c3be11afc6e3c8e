"""What can be asked of a fleet, said once: both clients make a method of each function here.

A function returns the call, or the listing, that a method makes; its docstring is the method's. A
new method is a function here and one line each in `operator.py` and `async_operator.py`.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from skerry.client import (
    access,
    audit,
    catalogue_calls,
    intent_calls,
    joining,
    operations,
    questions,
    recovery,
    residency,
    rows,
    scaling,
    verdicts,
)
from skerry.client import api_keys as api_key_calls
from skerry.client import drills as drill_calls
from skerry.client import operator_calls as calls
from skerry.client import projects as project_calls
from skerry.client import rollouts as rollout_calls
from skerry.client import service_levels as service_level_calls
from skerry.client.catalogue_calls import EntryKind
from skerry.client.control_planes import ControlPlaneRow, list_control_planes
from skerry.client.operator_calls import EVERY, Call, Which
from skerry.client.paging import Listing
from skerry.client.rollouts import RolloutRow
from skerry.client.rows import Value
from skerry.client.service_levels import ServiceLevelRow
from skerry.fleet.access import Grant
from skerry.fleet.api_key import SECRET_BYTES as KEY_SECRET_BYTES
from skerry.fleet.api_key import KeyTerms, key_text
from skerry.fleet.change_chain import Link, Noted
from skerry.fleet.deployment import Deployment, FailureDomain
from skerry.fleet.intent import CordonIntent, Intent, PoolIntent
from skerry.fleet.joining import SECRET_BYTES as JOIN_SECRET_BYTES
from skerry.fleet.joining import proof_text
from skerry.fleet.pool import PoolTerms
from skerry.fleet.service_token import SECRET_BYTES, token_text
from skerry.plumbing.ids import IdSource

Method = TypeVar("Method", bound=Callable[..., Any])

CHANGES_SHOWN = 200  # of `latest_changes` without a bound: what fits some screens


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Whose calls they are: the project they speak of, and where their request ids come from."""

    project: str
    ids: IdSource


def described(make: Callable[..., Any], name: str = "") -> Callable[[Method], Method]:
    """Give a method the name, docstring and parameters of the function it is made from."""

    def describe(method: Method) -> Method:
        method.__name__ = name or make.__name__
        method.__qualname__ = method.__name__
        method.__doc__ = make.__doc__
        # What the method returns is not what `make` does, so help() says nothing of it.
        signature = inspect.signature(make).replace(return_annotation=inspect.Signature.empty)
        method.__signature__ = signature  # type: ignore[attr-defined]
        return method

    return describe


def planes(asker: Asker, which: Which = EVERY) -> Listing[rows.PlaneRow]:
    """Return every plane that passes the filter, in the order asked for."""
    return lambda token: calls.list_planes(asker.project, token, which)


def pools(asker: Asker, which: Which = EVERY) -> Listing[rows.PoolRow]:
    """Return every pool that passes the filter, in the order asked for."""
    return lambda token: calls.list_pools(asker.project, token, which)


def deployments(asker: Asker, which: Which = EVERY) -> Listing[rows.DeploymentRow]:
    """Return every deployment that passes the filter, in the order asked for."""
    return lambda token: calls.list_deployments(asker.project, token, which)


def placements(asker: Asker, which: Which = EVERY) -> Listing[rows.PlacementRow]:
    """Return every placement that passes the filter, in the order asked for."""
    return lambda token: calls.list_placements(asker.project, token, which)


def replicas(asker: Asker, which: Which = EVERY) -> Listing[rows.ReplicaRow]:
    """Return every reported replica that passes the filter, in the order asked for."""
    return lambda token: calls.list_replicas(asker.project, token, which)


def nodes(asker: Asker, which: Which = EVERY) -> Listing[operations.NodeRow]:
    """Return every node that passes the filter, in the order asked for."""
    return lambda token: operations.list_nodes(asker.project, token, which)


def control_planes(asker: Asker, which: Which = EVERY) -> Listing[ControlPlaneRow]:
    """Return who leads and who stands by, in the order asked for."""
    return lambda token: list_control_planes(asker.project, token, which)


def changes_since(asker: Asker, sequence: int = 0, passes: str = "") -> Listing[rows.ChangeRow]:
    """Return the changes with a higher sequence that pass an AIP-160 filter, oldest first."""
    return lambda token: calls.list_changes(
        asker.project, token, sequence, newest_first=False, passes=passes
    )


def newest_changes(
    asker: Asker, page_rows: int = calls.PAGE_ROWS, passes: str = "", above: int = 0
) -> Listing[rows.ChangeRow]:
    """Return the changes that pass, newest first, `page_rows` (at most 1,000) at a time.

    Those up to the sequence `above` are not looked at.
    """
    return lambda token: calls.list_changes(
        asker.project, token, above, newest_first=True, page_rows=page_rows, passes=passes
    )


def change_records(asker: Asker, sequence: int = 0, since: datetime | None = None) -> Listing[Link]:
    """Return the changes with a higher sequence as they are chained, oldest first.

    With `since` from the first at or after that time on. OutOfRange where the next ones were
    forgotten, and for a sequence above the newest.
    """
    return lambda token: audit.list_change_records(asker.project, token, sequence, since)


def verified_changes(asker: Asker, noted: Noted | None = None) -> Listing[audit.VerifiedRow]:
    """Return how far the change log was found sound, a row for each piece; the last says it all.

    What was `noted` earlier must still be so: a log that was written anew has another digest.
    """
    return lambda token: audit.verify_changes(asker.project, token, noted)


def plans(asker: Asker, which: Which = EVERY) -> Listing[rows.PlanRow]:
    """Return the plans that are kept and pass the filter, the newest first unless ordered."""
    return lambda token: calls.list_plans(asker.project, token, which)


def revisions(asker: Asker, name: str, which: Which = EVERY) -> Listing[rows.RevisionRow]:
    """Return a deployment's revisions that pass the filter, the newest first unless ordered."""
    return lambda token: calls.list_revisions(asker.project, name, token, which)


def entries(
    asker: Asker, kind: EntryKind[Value], which: Which = EVERY
) -> Listing[rows.EntryRow[Value]]:
    """Return the catalogue's entries of a kind that pass the filter, in the order asked for."""
    return lambda token: catalogue_calls.list_entries(asker.project, kind, token, which)


def prices(asker: Asker, which: Which = EVERY) -> Listing[rows.PriceRow]:
    """Return the prices by time that pass, by pool and the earliest first unless ordered."""
    return lambda token: catalogue_calls.list_prices(asker.project, token, which)


def cordons(asker: Asker, which: Which = EVERY) -> Listing[rows.CordonRow]:
    """Return every cordon of a part of the fleet that passes the filter, in the order asked for."""
    return lambda token: catalogue_calls.list_cordons(asker.project, token, which)


def rollouts(asker: Asker, which: Which = EVERY) -> Listing[RolloutRow]:
    """Return how far each deployment's newest revision is, as far as it passes the filter."""
    return lambda token: rollout_calls.list_rollouts(asker.project, token, which)


def service_levels(
    asker: Asker, which: Which = EVERY, deployments: Sequence[str] = ()
) -> Listing[ServiceLevelRow]:
    """Return how answers of the last minutes kept what deployments promise; of all, or of some."""
    return lambda token: service_level_calls.list_service_levels(
        asker.project, token, which, deployments
    )


def prove_residency(
    asker: Asker, since: datetime, until: datetime | None = None, deployment: str = ""
) -> Call[residency.ResidencyRow]:
    """Return whether requests left the zones of their deployments, or of one, in a time.

    `until` None is as late as every plane must have told by now. NotFound for a deployment that has
    no residency zones.
    """
    return residency.prove_residency(asker.project, since, until, deployment)


def get_rollout(asker: Asker, deployment: str) -> Call[RolloutRow]:
    """Return how far a deployment's newest revision is; NotFound before anything was decided."""
    return rollout_calls.get_rollout(asker.project, deployment)


def steer_rollout(asker: Asker, deployment: str, action: str) -> Call[RolloutRow]:
    """Do `pause`, `resume` or `undo` to a rollout and return it."""
    return rollout_calls.steer_rollout(asker.project, deployment, action, asker.ids.new_id())


def record_drill(asker: Asker, drill: str, report: Mapping[str, Any]) -> Call[None]:
    """Write into the change log what a drill came to: its report, with `target` and `held`."""
    return drill_calls.record_drill(asker.project, drill, report, asker.ids.new_id())


def service_tokens(asker: Asker, which: Which = EVERY) -> Listing[access.ServiceTokenRow]:
    """Return the service tokens that the caller's own grants reach; never their secrets."""
    return lambda token: access.list_service_tokens(asker.project, token, which)


def create_service_token(
    asker: Asker, name: str, grant: Grant, expires_at: datetime | None = None
) -> Call[access.NewServiceToken]:
    """Make a service token and register its digest; its text is in this answer and nowhere else."""
    text = token_text(name, asker.ids.token(SECRET_BYTES))
    return access.create_service_token(asker.project, text, grant, expires_at, asker.ids.new_id())


def revoke_service_token(asker: Asker, name: str) -> Call[None]:
    """Make a service token no credential from now on; NotFound when there is none of that name."""
    return access.revoke_service_token(asker.project, name, asker.ids.new_id())


def api_keys(asker: Asker, which: Which = EVERY) -> Listing[api_key_calls.ApiKeyRow]:
    """Return the API keys for inference that were not revoked; never their secrets."""
    return lambda token: api_key_calls.list_api_keys(asker.project, token, which)


def create_api_key(
    asker: Asker, name: str, terms: KeyTerms, expires_at: datetime | None = None
) -> Call[api_key_calls.NewApiKey]:
    """Make an API key and register its digest; its text is in this answer and nowhere else."""
    text = key_text(name, asker.ids.token(KEY_SECRET_BYTES))
    request_id = asker.ids.new_id()
    return api_key_calls.create_api_key(asker.project, text, terms, expires_at, request_id)


def revoke_api_key(asker: Asker, name: str) -> Call[None]:
    """Take an API key back; NotFound when there is none of that name."""
    return api_key_calls.revoke_api_key(asker.project, name, asker.ids.new_id())


def projects(asker: Asker, which: Which = EVERY) -> Listing[project_calls.ProjectRow]:
    """Return the projects that the caller's own grants reach."""
    return lambda token: project_calls.list_projects(token, which)


def get_project(asker: Asker, name: str) -> Call[project_calls.ProjectRow]:
    """Return one project; NotFound when there is none of that name."""
    return project_calls.get_project(name)


def create_project(asker: Asker, name: str) -> Call[project_calls.ProjectRow]:
    """Make a project; AlreadyExists for a name that is in use."""
    return project_calls.create_project(name, asker.ids.new_id())


def delete_project(asker: Asker, name: str) -> Call[None]:
    """Forget a project; Infeasible while it owns something."""
    return project_calls.delete_project(name, asker.ids.new_id())


def plane_invites(asker: Asker, which: Which = EVERY) -> Listing[joining.PlaneInviteRow]:
    """Return the invites to planes, used and ended ones too; never their tokens."""
    return lambda token: joining.list_plane_invites(asker.project, token, which)


def create_plane_invite(
    asker: Asker, plane: str, expires_at: datetime, *, replace: bool = False
) -> Call[joining.NewPlaneInvite]:
    """Invite a plane; the token is in this answer and nowhere else.

    With `replace` it may take the place of one that is there, which is put out then.
    """
    proof = proof_text(plane, asker.ids.token(JOIN_SECRET_BYTES))
    return joining.create_plane_invite(
        asker.project, proof, expires_at, replace, asker.ids.new_id()
    )


def delete_plane_invite(asker: Asker, plane: str) -> Call[None]:
    """Withdraw a plane's invite; NotFound when there is none."""
    return joining.delete_plane_invite(asker.project, plane, asker.ids.new_id())


def plane_identities(asker: Asker, which: Which = EVERY) -> Listing[joining.PlaneIdentityRow]:
    """Return what proves each plane that joined by invitation or was revoked."""
    return lambda token: joining.list_plane_identities(asker.project, token, which)


def revoke_plane(asker: Asker, plane: str) -> Call[None]:
    """Let no certificate open the fleet to a plane of that name, until it is invited anew."""
    return joining.revoke_plane(asker.project, plane, asker.ids.new_id())


def pool_intents(asker: Asker) -> Listing[PoolIntent]:
    """Return the terms of every pool that has been given any, reported or not."""
    return lambda token: intent_calls.list_pool_intents(asker.project, token)


def cordon_intents(asker: Asker) -> Listing[CordonIntent]:
    """Return every cordon as the intent that would set it."""
    return lambda token: intent_calls.list_cordon_intents(asker.project, token)


def get_change(asker: Asker, sequence: int) -> Call[rows.ChangeRow]:
    """Return one change with what it did; NotFound when it is not kept (any more)."""
    return calls.get_change(asker.project, sequence)


def get_plane(asker: Asker, name: str) -> Call[rows.PlaneRow]:
    """Return one plane; NotFound when there is none of that name."""
    return calls.get_plane(asker.project, name)


def get_pool(asker: Asker, name: str) -> Call[rows.PoolRow]:
    """Return one pool by its fleet-wide id; NotFound when there is none."""
    return calls.get_pool(asker.project, name)


def get_deployment(asker: Asker, name: str) -> Call[rows.DeploymentRow]:
    """Return one deployment; NotFound when there is none of that name."""
    return calls.get_deployment(asker.project, name)


def set_pool_terms(
    asker: Asker, name: str, terms: PoolTerms, etag: str = "", only: Collection[str] = ()
) -> Call[rows.PoolRow]:
    """Set a pool's terms; Conflict when `etag` is given and no longer the pool's.

    `only` are the fields of `terms` to set; the others stay as they are. None: all.
    """
    return calls.update_pool(asker.project, name, terms, etag, asker.ids.new_id(), only)


def apply(
    asker: Asker, deployment: Deployment
) -> Call[tuple[rows.DeploymentRow, rows.ApplyOutcome]]:
    """Create the deployment or give it a new revision; the same again changes nothing."""
    return calls.apply_deployment(asker.project, deployment, asker.ids.new_id())


def apply_all(
    asker: Asker, deployments: Sequence[Deployment], *, validate_only: bool = False
) -> Call[tuple[rows.AppliedRow, ...]]:
    """Apply all deployments or none; with `validate_only` say what that would do."""
    ids = asker.ids.new_id()
    return calls.apply_all(asker.project, deployments, ids, validate_only=validate_only)


def apply_everything(
    asker: Asker,
    deployments: Sequence[Deployment],
    intents: Sequence[Intent],
    *,
    validate_only: bool = False,
) -> Call[rows.AppliedEverything]:
    """Apply deployments and other intents, all or none; what is not among them stays as it is."""
    ids = asker.ids.new_id()
    return intent_calls.apply_everything(
        asker.project, deployments, intents, ids, validate_only=validate_only
    )


def plan(asker: Asker, deployment: Deployment) -> Call[rows.PlanPreview]:
    """Return what applying would do; changes nothing."""
    return calls.plan_deployment(asker.project, deployment)


def get_plan(asker: Asker, number: int | None = None) -> Call[rows.PlanPreview]:
    """Return the decision in force (NotFound before the first), or a plan by its number."""
    return calls.get_plan(asker.project, number)


def settle_plan(asker: Asker, number: int, *, approved: bool) -> Call[rows.PlanRow]:
    """Approve or reject a plan that waits; Infeasible when it does not."""
    return calls.settle_plan(asker.project, number, asker.ids.new_id(), approved=approved)


def explain_plane(asker: Asker, plane: str) -> Call[verdicts.PlaneExplanation]:
    """Return why a plane is judged as it is, and what would have to happen for it to be lost."""
    return verdicts.explain_plane(asker.project, plane)


def explain_scaling(
    asker: Asker, deployment: str, decisions: int = 0
) -> Call[scaling.ScalingExplanation]:
    """Return why a deployment has as many replicas as it has, with its newest decisions."""
    return scaling.explain_scaling(asker.project, deployment, decisions)


def pause_scaling(asker: Asker, deployment: str) -> Call[rows.DeploymentRow]:
    """Keep a deployment's number of replicas as it is until it is resumed."""
    return scaling.pause_scaling(asker.project, deployment, asker.ids.new_id(), paused=True)


def resume_scaling(asker: Asker, deployment: str) -> Call[rows.DeploymentRow]:
    """Let a deployment's number of replicas follow its load again."""
    return scaling.pause_scaling(asker.project, deployment, asker.ids.new_id(), paused=False)


def get_freeze(asker: Asker) -> Call[str]:
    """Return why nothing is moved now, though planes are silent; empty when all may be moved."""
    return verdicts.get_freeze(asker.project)


def explain(asker: Asker, deployment: str, pool: str | None = None) -> Call[questions.Explanation]:
    """Return why a deployment is where it is, or why it is or is not on a pool."""
    return calls.explain(asker.project, deployment, pool)


def what_if(asker: Asker, changes: Sequence[questions.Hypothesis]) -> Call[questions.Consequences]:
    """Return what the changes together would do to the fleet; changes nothing."""
    return calls.what_if(asker.project, changes)


def survive(
    asker: Asker, domains: Sequence[FailureDomain] = ()
) -> Call[tuple[questions.LossRow, ...]]:
    """Return what each loss would leave; without `domains` of every kind."""
    return calls.survive(asker.project, domains)


def rollback(asker: Asker, name: str, revision: int = 0) -> Call[rows.DeploymentRow]:
    """Make an earlier revision of a deployment the present one; 0: the one before."""
    return calls.rollback_deployment(asker.project, name, revision, asker.ids.new_id())


def delete_deployment(asker: Asker, name: str) -> Call[None]:
    """Delete a deployment; NotFound when there is none of that name."""
    return calls.delete_deployment(asker.project, name, asker.ids.new_id())


def get_entry(asker: Asker, kind: EntryKind[Value], name: str) -> Call[rows.EntryRow[Value]]:
    """Return one entry of the catalogue; NotFound when there is none of that name."""
    return catalogue_calls.get_entry(asker.project, kind, name)


def set_entry(
    asker: Asker, kind: EntryKind[Value], value: Value, etag: str = ""
) -> Call[rows.EntryRow[Value]]:
    """Create an entry or put the value in its place; Conflict when `etag` is another's."""
    return catalogue_calls.set_entry(asker.project, kind, value, etag, asker.ids.new_id())


def delete_entry(asker: Asker, kind: EntryKind[Any], name: str) -> Call[None]:
    """Delete an entry; Infeasible while something uses it."""
    return catalogue_calls.delete_entry(asker.project, kind, name, asker.ids.new_id())


def set_price(asker: Asker, pool: str, valid_from: datetime, dollars: float) -> Call[None]:
    """Say what an accelerator-hour of a pool costs from a moment on."""
    ids = asker.ids.new_id()
    return catalogue_calls.set_price(asker.project, pool, valid_from, dollars, ids)


def delete_price(asker: Asker, pool: str, valid_from: datetime) -> Call[None]:
    """Forget a pool's price from a moment on: the one before it goes on."""
    return catalogue_calls.delete_price(asker.project, pool, valid_from, asker.ids.new_id())


def get_node(asker: Asker, name: str) -> Call[operations.NodeRow]:
    """Return one node by its fleet-wide id; NotFound when no plane reports it."""
    return operations.get_node(asker.project, name)


def failover(
    asker: Asker, part: str, *, even_if_serving: bool = False, validate_only: bool = False
) -> Call[operations.FailoverRow]:
    """Declare the silent planes of `planes/X`, `regions/CLOUD/REGION` or `clouds/X` lost.

    Infeasible for one that is heard, and for one that peers see serving unless `even_if_serving`.
    """
    return operations.failover(
        asker.project,
        part,
        asker.ids.new_id(),
        even_if_serving=even_if_serving,
        validate_only=validate_only,
    )


def get_recovery(asker: Asker) -> Call[recovery.RecoveryRow]:
    """Return whether the control plane takes in what planes hold, and how far that is."""
    return recovery.get_recovery(asker.project)


def approve_recovery(asker: Asker, etag: str = "") -> Call[recovery.RecoveryRow]:
    """End the recovery as it stands; Conflict when `etag` is told and it is another by now."""
    return recovery.approve_recovery(asker.project, asker.ids.new_id(), etag)


def move_replica(
    asker: Asker, move: operations.Move, *, validate_only: bool = False
) -> Call[rows.PlanPreview]:
    """Move replicas from one pool to another; Infeasible says why they may not be there."""
    return operations.move_replica(
        asker.project, move, asker.ids.new_id(), validate_only=validate_only
    )


def cordon(asker: Asker, part: str, *, cordoned: bool) -> Call[bool]:
    """Cordon `planes/X`, `nodes/PLANE--NODE` or the like, or end it; say if it was new."""
    return catalogue_calls.cordon(asker.project, part, asker.ids.new_id(), cordoned=cordoned)
