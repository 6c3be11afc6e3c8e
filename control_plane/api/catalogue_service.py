"""skerry.api.operator.v1.CatalogueService: entries, prices by time, and cordons.

`main.py` adds it beside OperatorService, behind the same interceptor.
"""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane.api import validation
from control_plane.api.catalogue import (
    ACCELERATORS,
    MEASURED,
    MODELS,
    PLACES,
    RESERVED,
    SITES,
    Collection,
)
from control_plane.api.filters import order_of, parse_filter
from control_plane.api.listing import listed
from control_plane.api.pagination import ordered_page_of
from control_plane.api.times import moment_of, time_to_proto
from control_plane.api.writing import Writing
from control_plane.store import catalogue
from control_plane.store.cordons import list_cordons, set_cordon
from control_plane.store.engine import Database
from control_plane.store.planes import list_planes
from control_plane.store.prices import PriceFrom, delete_price, list_prices, set_price
from control_plane.store.values import StoredEntry
from skerry.api.operator.v1 import catalogue_service_pb2 as pb
from skerry.api.operator.v1 import (
    cordon_pb2,
    price_pb2,
)
from skerry.api.operator.v1.catalogue_service_pb2_grpc import CatalogueServiceServicer
from skerry.fleet.cordon import CordonState
from skerry.fleet.names import DEFAULT_PROJECT


class CatalogueService(CatalogueServiceServicer):
    """The catalogue's API of one control plane."""

    def __init__(self, *, database: Database, writing: Writing) -> None:
        """Serve this store; `writing` gives every write its context and wakes who decides."""
        self._database = database
        self._writing = writing

    async def ListAcceleratorKinds(
        self, request: pb.ListAcceleratorKindsRequest, context: Any
    ) -> Any:
        """Return a page of accelerator kinds that pass the filter, in the order asked for."""
        found, token = await self._list(ACCELERATORS, request)
        return pb.ListAcceleratorKindsResponse(accelerator_kinds=found, next_page_token=token)

    async def GetAcceleratorKind(self, request: pb.GetAcceleratorKindRequest, context: Any) -> Any:
        """Return an accelerator kind."""
        return await self._get(ACCELERATORS, request)

    async def CreateAcceleratorKind(
        self, request: pb.CreateAcceleratorKindRequest, context: Any
    ) -> Any:
        """Create an accelerator kind."""
        return await self._create(ACCELERATORS, request, context)

    async def UpdateAcceleratorKind(
        self, request: pb.UpdateAcceleratorKindRequest, context: Any
    ) -> Any:
        """Change an accelerator kind, whole or the masked fields."""
        return await self._update(ACCELERATORS, request, context)

    async def DeleteAcceleratorKind(
        self, request: pb.DeleteAcceleratorKindRequest, context: Any
    ) -> Empty:
        """Delete an accelerator kind that nothing uses."""
        return await self._delete(ACCELERATORS, request, context)

    async def ListBaseModels(self, request: pb.ListBaseModelsRequest, context: Any) -> Any:
        """Return a page of base models that pass the filter, in the order asked for."""
        found, token = await self._list(MODELS, request)
        return pb.ListBaseModelsResponse(base_models=found, next_page_token=token)

    async def GetBaseModel(self, request: pb.GetBaseModelRequest, context: Any) -> Any:
        """Return a base model."""
        return await self._get(MODELS, request)

    async def CreateBaseModel(self, request: pb.CreateBaseModelRequest, context: Any) -> Any:
        """Create a base model."""
        return await self._create(MODELS, request, context)

    async def UpdateBaseModel(self, request: pb.UpdateBaseModelRequest, context: Any) -> Any:
        """Change a base model, whole or the masked fields."""
        return await self._update(MODELS, request, context)

    async def DeleteBaseModel(self, request: pb.DeleteBaseModelRequest, context: Any) -> Empty:
        """Delete a base model that nothing uses."""
        return await self._delete(MODELS, request, context)

    async def ListReservations(self, request: pb.ListReservationsRequest, context: Any) -> Any:
        """Return a page of reservations that pass the filter, in the order asked for."""
        found, token = await self._list(RESERVED, request)
        return pb.ListReservationsResponse(reservations=found, next_page_token=token)

    async def GetReservation(self, request: pb.GetReservationRequest, context: Any) -> Any:
        """Return a reservation."""
        return await self._get(RESERVED, request)

    async def CreateReservation(self, request: pb.CreateReservationRequest, context: Any) -> Any:
        """Create a reservation."""
        return await self._create(RESERVED, request, context)

    async def UpdateReservation(self, request: pb.UpdateReservationRequest, context: Any) -> Any:
        """Change a reservation, whole or the masked fields."""
        return await self._update(RESERVED, request, context)

    async def DeleteReservation(self, request: pb.DeleteReservationRequest, context: Any) -> Empty:
        """Delete a reservation that nothing uses."""
        return await self._delete(RESERVED, request, context)

    async def ListClouds(self, request: pb.ListCloudsRequest, context: Any) -> Any:
        """Return a page of clouds, registered or reported, that pass the filter."""
        found, token = await self._list(SITES, request)
        return pb.ListCloudsResponse(clouds=found, next_page_token=token)

    async def GetCloud(self, request: pb.GetCloudRequest, context: Any) -> Any:
        """Return a cloud, registered or reported."""
        return await self._get(SITES, request)

    async def CreateCloud(self, request: pb.CreateCloudRequest, context: Any) -> Any:
        """Register a cloud."""
        return await self._create(SITES, request, context)

    async def UpdateCloud(self, request: pb.UpdateCloudRequest, context: Any) -> Any:
        """Change what is registered of a cloud, whole or the masked fields."""
        return await self._update(SITES, request, context)

    async def DeleteCloud(self, request: pb.DeleteCloudRequest, context: Any) -> Empty:
        """Forget what was registered of a cloud; its planes stay where they are."""
        return await self._delete(SITES, request, context)

    async def ListRegions(self, request: pb.ListRegionsRequest, context: Any) -> Any:
        """Return a page of regions, registered or reported, that pass the filter."""
        found, token = await self._list(PLACES, request)
        return pb.ListRegionsResponse(regions=found, next_page_token=token)

    async def GetRegion(self, request: pb.GetRegionRequest, context: Any) -> Any:
        """Return a region, registered or reported."""
        return await self._get(PLACES, request)

    async def CreateRegion(self, request: pb.CreateRegionRequest, context: Any) -> Any:
        """Register a region."""
        return await self._create(PLACES, request, context)

    async def UpdateRegion(self, request: pb.UpdateRegionRequest, context: Any) -> Any:
        """Change what is registered of a region, whole or the masked fields."""
        return await self._update(PLACES, request, context)

    async def DeleteRegion(self, request: pb.DeleteRegionRequest, context: Any) -> Empty:
        """Forget what was registered of a region; its planes stay where they are."""
        return await self._delete(PLACES, request, context)

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Any) -> Any:
        """Return a page of profiles that pass the filter, in the order asked for."""
        found, token = await self._list(MEASURED, request)
        return pb.ListProfilesResponse(profiles=found, next_page_token=token)

    async def GetProfile(self, request: pb.GetProfileRequest, context: Any) -> Any:
        """Return a profile."""
        return await self._get(MEASURED, request)

    async def CreateProfile(self, request: pb.CreateProfileRequest, context: Any) -> Any:
        """Keep what was measured."""
        return await self._create(MEASURED, request, context)

    async def UpdateProfile(self, request: pb.UpdateProfileRequest, context: Any) -> Any:
        """Keep what was measured anew, whole or the masked fields."""
        return await self._update(MEASURED, request, context)

    async def DeleteProfile(self, request: pb.DeleteProfileRequest, context: Any) -> Empty:
        """Forget what was measured."""
        return await self._delete(MEASURED, request, context)

    async def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> Any:
        """Return a page of prices by time, by pool, the earliest first."""
        validation.check_parent(request.parent)
        pool = validation.check_pool_id(request.pool, "pool") if request.pool else ""
        told = [
            _price(name, valid_from, price)
            for name, prices in (await self._database.run_read(list_prices)).items()
            for valid_from, price in prices
            if not pool or name == pool
        ]
        page = listed(request, told, _price_key, _itself, price_pb2.Price, _price_key)
        return pb.ListPricesResponse(prices=page.items, next_page_token=page.next_token)

    async def SetPrice(self, request: pb.SetPriceRequest, context: Any) -> price_pb2.Price:
        """Say what a pool costs from a moment on."""
        validation.check_parent(request.parent)
        told = request.price
        pool = validation.check_pool_id(told.pool, "price.pool")
        dollars = validation.check_price(
            told.price_per_accelerator_hour, "price.price_per_accelerator_hour"
        )
        valid_from = moment_of(told, "valid_from", "price.valid_from")
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            price = PriceFrom(pool, valid_from, dollars)
            await self._database.run(set_price, write, price, request_id)
        return _price(pool, valid_from, dollars)

    async def DeletePrice(self, request: pb.DeletePriceRequest, context: Any) -> Empty:
        """Forget a pool's price from a moment on."""
        validation.check_parent(request.parent)
        pool = validation.check_pool_id(request.pool, "pool")
        valid_from = moment_of(request, "valid_from")
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            await self._database.run(delete_price, write, pool, valid_from, request_id)
        return Empty()

    async def ListCordons(self, request: pb.ListCordonsRequest, context: Any) -> Any:
        """Return a page of the parts of the fleet that take nothing new."""
        validation.check_parent(request.parent)
        messages = [
            cordon_pb2.Cordon(
                name=f"projects/{DEFAULT_PROJECT}/{cordon.part.resource}",
                actor=cordon.actor,
                reason=cordon.reason,
                since=time_to_proto(cordon.since),
                draining=cordon.draining,
            )
            for cordon in await self._database.run_read(list_cordons)
        ]
        page = listed(request, messages, _name, _itself, cordon_pb2.Cordon)
        return pb.ListCordonsResponse(cordons=page.items, next_page_token=page.next_token)

    async def Cordon(self, request: pb.CordonRequest, context: Any) -> Any:
        """Place nothing new in a part of the fleet; a drain of it ends."""
        state = CordonState.CORDONED
        return pb.CordonResponse(changed=await self._cordon(request, context, state))

    async def Uncordon(self, request: pb.UncordonRequest, context: Any) -> Any:
        """Let a part of the fleet take replicas again."""
        state = CordonState.OPEN
        return pb.UncordonResponse(changed=await self._cordon(request, context, state))

    async def _cordon(self, request: Any, context: Any, state: CordonState) -> bool:
        part = validation.check_part(request.name)
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            return await self._database.run(set_cordon, write, part, state, request_id)

    async def _list(self, kind: Collection[Any], request: Any) -> tuple[list[Any], str]:
        validation.check_parent(request.parent)
        passes = parse_filter(request.filter, kind.message)
        order = order_of(request.order_by, kind.message)
        found = [message for message in await self._messages(kind) if passes(message)]
        listing = f"{type(request).__name__} {request.parent} {request.filter} {request.order_by}"
        page = ordered_page_of(found, order, listing, request.page_size, request.page_token)
        return list(page.items), page.next_token

    async def _get(self, kind: Collection[Any], request: Any) -> Any:
        name = kind.name_of(request.name)
        stored, every = await self._database.run_read(catalogue.find_with_planes, kind.kind, name)
        planes = kind.planes_in(every).get(name, [])
        if stored is not None:
            return kind.to_proto(stored, planes)
        if not planes:
            raise catalogue.no_such(kind.kind, name)
        return kind.as_reported(name, planes)

    async def _messages(self, kind: Collection[Any]) -> list[Any]:
        """Return every entry of a kind, registered or reported."""
        entries, every = await self._database.run_read(catalogue.list_with_planes, kind.kind)
        planes = kind.planes_in(every)
        known = {entry.value.name for entry in entries}
        return [
            *(kind.to_proto(entry, planes.get(entry.value.name, ())) for entry in entries),
            *(kind.as_reported(name, there) for name, there in planes.items() if name not in known),
        ]

    async def _create(self, kind: Collection[Any], request: Any, context: Any) -> Any:
        validation.check_parent(request.parent)
        name = kind.new_name(getattr(request, f"{kind.field}_id"))
        value = kind.value_of(name, getattr(request, kind.field))
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            stored = await self._database.run(
                catalogue.create_entry, write, kind.kind, value, request_id
            )
        return await self._written(kind, stored)

    async def _update(self, kind: Collection[Any], request: Any, context: Any) -> Any:
        message = getattr(request, kind.field)
        name = kind.name_of(message.name)
        kind.check_mask(request.update_mask)
        etag = validation.check_opaque(message.etag, f"{kind.field}.etag")
        request_id = validation.check_opaque(request.request_id, "request_id")
        only = catalogue.OnlyIf(etag=etag, allow_missing=request.allow_missing)
        update: Any = catalogue.update_entry
        if request.update_mask.paths:
            update, change = (
                catalogue.merge_entry,
                kind.merge_of(name, message, request.update_mask),
            )
        else:
            change = kind.value_of(name, message)
        with self._writing.done():
            write = self._writing.context(context)
            stored = await self._database.run(update, write, kind.kind, change, only, request_id)
        return await self._written(kind, stored)

    async def _written(self, kind: Collection[Any], stored: StoredEntry[Any]) -> Any:
        """Return the message of what was written, with the planes there."""
        planes = await self._database.run_read(list_planes) if kind.scope else ()
        return kind.to_proto(stored, kind.planes_in(planes).get(stored.value.name, ()))

    async def _delete(self, kind: Collection[Any], request: Any, context: Any) -> Empty:
        name = kind.name_of(request.name)
        etag = validation.check_opaque(request.etag, "etag")
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            await self._database.run(
                catalogue.delete_entry, write, kind.kind, name, etag, request_id
            )
        return Empty()


def _name(message: Any) -> str:
    return str(message.name)


def _itself(message: Any) -> Any:
    return message


def _price_key(price: price_pb2.Price) -> str:
    return f"{price.pool} {price.valid_from.ToDatetime(tzinfo=UTC).isoformat()}"


def _price(pool: str, valid_from: datetime, dollars: float) -> price_pb2.Price:
    return price_pb2.Price(
        pool=pool, valid_from=time_to_proto(valid_from), price_per_accelerator_hour=dollars
    )
