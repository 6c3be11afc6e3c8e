"""skerry.api.operator.v1.AccessService: service tokens, made and revoked by who may give rights.

Nobody gives more than they have, and nobody sees or ends what reaches further than they do.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane.api import validation
from control_plane.api.access.decision import may_grant, may_see
from control_plane.api.access.door import principal_of
from control_plane.api.listing import listed
from control_plane.api.projects import check_one, check_project, is_in
from control_plane.api.times import moment_of, time_to_proto
from control_plane.api.views import FleetViews
from control_plane.api.writing import Writing
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.service_tokens import (
    COLLECTION,
    StoredToken,
    create_service_token,
    list_service_tokens,
    no_such_token,
    revoke_service_token,
    was_revoked_by,
)
from skerry.api.operator.v1 import access_pb2 as pb
from skerry.api.operator.v1.access_pb2_grpc import AccessServiceServicer
from skerry.fleet.access import Grant, Principal, Role, ServiceToken
from skerry.fleet.names import DEFAULT_PROJECT, InvalidName, check_name, full_name
from skerry.fleet.service_token import BOOTSTRAP_TOKEN, DIGEST_BYTES
from skerry.plumbing.errors import Denied, InvalidInput


class AccessService(AccessServiceServicer):
    """Service tokens of one control plane."""

    def __init__(
        self,
        database: Database,
        writing: Writing,
        changed: Callable[[], None],
        views: FleetViews,
    ) -> None:
        """Keep tokens in this store; `changed` is told after every write."""
        self._database = database
        self._writing = writing
        self._views = views
        self._changed = changed

    async def ListServiceTokens(self, request: pb.ListServiceTokensRequest, context: Any) -> Any:
        """Return a page of the tokens that the caller's grants reach, by name."""
        project = await self._project(request.parent)
        principal = principal_of(context)
        stored = await self._database.run_read(list_service_tokens)
        seen = [
            one
            for one in stored
            if is_in(project, one.project) and may_see(principal, one.token.grant)
        ]
        page = listed(request, seen, lambda one: one.token.name, _listed, pb.ServiceToken)
        return pb.ListServiceTokensResponse(
            service_tokens=page.items, next_page_token=page.next_token
        )

    async def CreateServiceToken(
        self, request: pb.CreateServiceTokenRequest, context: Any
    ) -> pb.ServiceToken:
        """Register a token by its digest."""
        project = check_one(await self._views.now(), validation.check_owner(request.parent))
        request_id = validation.check_opaque(request.request_id, "request_id")
        if len(request.token_sha256) != DIGEST_BYTES:
            raise InvalidInput(
                f"token_sha256 must be the {DIGEST_BYTES} bytes of the token's SHA-256",
                field="token_sha256",
            )
        write = self._writing.context(context, project)
        token = _token_of(request, write)
        if not may_grant(principal_of(context), token.grant):
            raise Denied(
                f"{write.actor} cannot give role {token.grant.role.value} there: nobody gives more"
                " than they have; ask an admin of all of it"
            )
        with self._writing.done():
            made = await self._database.run(
                create_service_token, write, token, request.token_sha256, request_id
            )
        self._changed()
        return token_to_proto(made, project)

    async def RevokeServiceToken(
        self, request: pb.RevokeServiceTokenRequest, context: Any
    ) -> Empty:
        """Make a token no credential."""
        project, name = validation.check_owned_name(request.name, COLLECTION)
        project = check_one(await self._views.now(), project)
        request_id = validation.check_opaque(request.request_id, "request_id")
        write = self._writing.context(context, project)
        if await self._database.run_read(was_revoked_by, write, name, request_id):
            return Empty()
        token = await self._within_reach(project, name, principal_of(context))
        with self._writing.done():
            await self._database.run(revoke_service_token, write, token, request_id)
        self._changed()
        return Empty()

    async def _project(self, parent: str) -> str:
        return check_project(await self._views.now(), validation.check_owner(parent))

    async def _within_reach(self, project: str, name: str, principal: Principal) -> ServiceToken:
        stored = await self._database.run_read(list_service_tokens)
        for one in stored:
            mine = one.token.name == name and one.project == project
            if mine and may_grant(principal, one.token.grant):
                return one.token
        raise no_such_token(name)


def token_to_proto(token: ServiceToken, project: str) -> pb.ServiceToken:
    """Return the message of a project's token."""
    grant, ends, used = token.grant, token.expires_at, token.last_used_at
    return pb.ServiceToken(
        name=full_name(project, COLLECTION, token.name),
        role=grant.role.value,
        projects=grant.projects,
        planes=grant.planes,
        creator=token.creator,
        create_time=time_to_proto(token.created_at),
        expire_time=time_to_proto(ends) if ends else None,
        last_use_time=time_to_proto(used) if used else None,
    )


def _listed(stored: StoredToken) -> pb.ServiceToken:
    return token_to_proto(stored.token, stored.project)


def _token_of(request: pb.CreateServiceTokenRequest, write: WriteContext) -> ServiceToken:
    told = request.service_token
    try:
        name = check_name(request.service_token_id, "token")
        if name == BOOTSTRAP_TOKEN:
            raise InvalidName(f"{BOOTSTRAP_TOKEN!r} is the name of the token from the settings")
    except InvalidName as error:
        raise InvalidInput(str(error), field="service_token_id") from error
    if told.role not in list(Role):
        roles = ", ".join(role.value for role in Role)
        raise InvalidInput(f"role must be one of {roles}", field="service_token.role")
    try:
        grant = Grant(
            role=Role(told.role),
            projects=tuple(sorted(set(told.projects))),
            planes=tuple(sorted(set(told.planes))),
        )
    except ValueError as error:
        raise InvalidInput(str(error), field="service_token") from error
    if write.project not in (DEFAULT_PROJECT, *grant.projects) or (
        write.project != DEFAULT_PROJECT and len(grant.projects) > 1
    ):
        raise InvalidInput(
            f"a token of project {write.project!r} is for that project alone; make one for others"
            f" in {DEFAULT_PROJECT!r}",
            field="service_token.projects",
        )
    ends = None
    if told.HasField("expire_time"):
        ends = moment_of(told, "expire_time", "service_token.expire_time")
    return ServiceToken(
        name=name, grant=grant, creator=write.actor, created_at=write.now, expires_at=ends
    )
