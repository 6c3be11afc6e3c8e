"""The join port: TLS by which callers know the control plane, and no certificate asked of them."""

import grpc

from control_plane.link.enrolment import Enrolment
from skerry.api.plane.v1 import enrolment_pb2_grpc
from skerry.plumbing.errors import Conflict
from skerry.plumbing.rpc import (
    SERVER_OPTIONS,
    ErrorInterceptor,
    TlsFiles,
    public_server_credentials,
)

# Anybody may call here, with two lines of text: nobody is read further than that.
REQUEST_BYTES_MAX = 16 * 1024
_OPTIONS = tuple(
    {**dict(SERVER_OPTIONS), "grpc.max_receive_message_length": REQUEST_BYTES_MAX}.items()
)


async def serve_join_port(enrolment: Enrolment, tls: TlsFiles, address: str) -> grpc.aio.Server:
    """Start the join port; no health and no reflection: it shows strangers one service."""
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=_OPTIONS)
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment, server)
    try:
        server.add_secure_port(address, public_server_credentials(tls.cert, tls.key))
    except RuntimeError as error:
        raise Conflict(
            f"cannot listen on {address}: the port is taken; stop what holds it or choose another"
        ) from error
    await server.start()
    return server
