"""skerry.api.operator.v1.CatalogueService: entries, prices by time, and cordons of domains.

`main.py` adds it beside OperatorService, behind the same interceptor.
"""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api import validation
from control_plane.api.catalogue import ACCELERATORS, MODELS, RESERVED, Collection, check_id
from control_plane.api.filters import order_of, parse_filter
from control_plane.api.pagination import ordered_page_of, page_of
from control_plane.api.writing import Writing
from control_plane.store import catalogue
from control_plane.store.cordons import list_cordons, set_cordon
from control_plane.store.engine import Database
from control_plane.store.prices import PriceFrom, delete_price, list_prices, set_price
from skerry.api.operator.v1 import catalogue_service_pb2 as pb
from skerry.api.operator.v1 import (
    cordon_pb2,
    price_pb2,
)
from skerry.api.operator.v1.catalogue_service_pb2_grpc import CatalogueServiceServicer
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.plumbing.errors import InvalidInput


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

    async def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> Any:
        """Return a page of prices by time, by pool, the earliest first."""
        validation.check_parent(request.parent)
        pool = validation.check_pool_id(request.pool, "pool") if request.pool else ""
        told = [
            (name, valid_from, price)
            for name, prices in (await self._database.run_read(list_prices)).items()
            for valid_from, price in prices
            if not pool or name == pool
        ]
        listing = f"ListPrices {request.parent} {pool}"
        page = page_of(told, _price_key, listing, request.page_size, request.page_token)
        prices = [_price(*row) for row in page.items]
        return pb.ListPricesResponse(prices=prices, next_page_token=page.next_token)

    async def SetPrice(self, request: pb.SetPriceRequest, context: Any) -> price_pb2.Price:
        """Say what a pool costs from a moment on."""
        validation.check_parent(request.parent)
        told = request.price
        pool = validation.check_pool_id(told.pool, "price.pool")
        dollars = validation.check_price(
            told.price_per_accelerator_hour, "price.price_per_accelerator_hour"
        )
        valid_from = _moment(told, "valid_from", "price.valid_from")
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
        valid_from = _moment(request, "valid_from", "valid_from")
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            await self._database.run(delete_price, write, pool, valid_from, request_id)
        return Empty()

    async def ListCordons(self, request: pb.ListCordonsRequest, context: Any) -> Any:
        """Return a page of the domains that take nothing new."""
        validation.check_parent(request.parent)
        messages = [
            cordon_pb2.Cordon(
                name=full_name(DEFAULT_PROJECT, f"{cordon.domain.value}s", cordon.name),
                actor=cordon.actor,
                reason=cordon.reason,
                since=_time(cordon.since),
            )
            for cordon in await self._database.run_read(list_cordons)
        ]
        listing = f"ListCordons {request.parent}"
        page = page_of(messages, _name, listing, request.page_size, request.page_token)
        return pb.ListCordonsResponse(cordons=page.items, next_page_token=page.next_token)

    async def Cordon(self, request: pb.CordonRequest, context: Any) -> Any:
        """Place nothing new in a domain."""
        return pb.CordonResponse(changed=await self._cordon(request, context, cordoned=True))

    async def Uncordon(self, request: pb.UncordonRequest, context: Any) -> Any:
        """Let a domain take replicas again."""
        return pb.UncordonResponse(changed=await self._cordon(request, context, cordoned=False))

    async def _cordon(self, request: Any, context: Any, *, cordoned: bool) -> bool:
        domain, name = validation.check_domain(request.name)
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            return await self._database.run(set_cordon, write, domain, name, cordoned, request_id)

    async def _list(self, kind: Collection[Any], request: Any) -> tuple[list[Any], str]:
        validation.check_parent(request.parent)
        passes = parse_filter(request.filter, kind.message)
        order = order_of(request.order_by, kind.message)
        entries = await self._database.run_read(catalogue.list_entries, kind.kind)
        found = [message for entry in entries if passes(message := kind.to_proto(entry))]
        listing = f"{type(request).__name__} {request.parent} {request.filter} {request.order_by}"
        page = ordered_page_of(found, order, listing, request.page_size, request.page_token)
        return list(page.items), page.next_token

    async def _get(self, kind: Collection[Any], request: Any) -> Any:
        name = kind.name_of(request.name)
        return kind.to_proto(await self._database.run_read(catalogue.get_entry, kind.kind, name))

    async def _create(self, kind: Collection[Any], request: Any, context: Any) -> Any:
        validation.check_parent(request.parent)
        id_field = f"{kind.field}_id"
        name = check_id(getattr(request, id_field), id_field)
        value = kind.value_of(name, getattr(request, kind.field))
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            stored = await self._database.run(
                catalogue.create_entry, write, kind.kind, value, request_id
            )
        return kind.to_proto(stored)

    async def _update(self, kind: Collection[Any], request: Any, context: Any) -> Any:
        message = getattr(request, kind.field)
        name = kind.name_of(message.name)
        kind.check_mask(request.update_mask)
        etag = validation.check_opaque(message.etag, f"{kind.field}.etag")
        request_id = validation.check_opaque(request.request_id, "request_id")
        if request.update_mask.paths:
            held = await self._database.run_read(catalogue.get_entry, kind.kind, name)
            value = kind.merged(held.value, message, request.update_mask)
            # Of what was read: a change in between must not be undone by the fields left out.
            etag = etag or held.etag
        else:
            value = kind.value_of(name, message)
        only = catalogue.OnlyIf(etag=etag, allow_missing=request.allow_missing)
        with self._writing.done():
            write = self._writing.context(context)
            stored = await self._database.run(
                catalogue.update_entry, write, kind.kind, value, only, request_id
            )
        return kind.to_proto(stored)

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


def _price_key(row: tuple[str, datetime, float]) -> str:
    return f"{row[0]} {row[1].isoformat()}"


def _price(pool: str, valid_from: datetime, dollars: float) -> price_pb2.Price:
    return price_pb2.Price(
        pool=pool, valid_from=_time(valid_from), price_per_accelerator_hour=dollars
    )


def _moment(message: Any, field: str, path: str) -> datetime:
    """Return a time that a message must tell."""
    if not message.HasField(field):
        raise InvalidInput(f"say the {field}", field=path)
    try:
        told: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{field} is no time that there is", field=path) from None
    return told


def _time(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
