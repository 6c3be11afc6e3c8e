"""TLS between gateways: both sides show a certificate of the authority, TLS 1.3 only.

Pure; `clusters.py`, `listeners.py` and `resources.py` call it. Secrets come by file, so renewed
certificates are taken up without a new listener or cluster.
"""

from skerry.fleet.names import parse_full_name
from skerry.fleet.party_uris import PLANE, plane_uri, spiffe_path
from workload_plane.gateway.topology import PeerTls
from workload_plane.gateway.wire import (
    AUTHORITY_SECRET,
    IDENTITY_SECRET,
    Json,
    extension,
    file_source,
    typed,
)


def peer_tls(tls: PeerTls, files_root: str) -> Json:
    """Return the transport socket of a connection to a peer, told by its plane's name."""
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common_tls_context(files_root),
        auto_host_sni=True,
    )
    if tls.verify_plane_names:
        context["auto_sni_san_validation"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def common_tls_context(files_root: str) -> Json:
    """Return the TLS settings of both sides of a gateway-to-gateway connection."""
    return {
        # Envoy's upstream side stops at 1.2 unless told.
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificate_sds_secret_configs": [_secret_source(files_root, IDENTITY_SECRET)],
        "validation_context_sds_secret_config": _secret_source(files_root, AUTHORITY_SECRET),
    }


def refuse_revoked(planes: tuple[str, ...]) -> tuple[Json, ...]:
    """Return the filter that answers 403 to whoever shows a certificate of these, by full name.

    By name and not by a revocation list: that would have to come from the authority, which need
    not be ours, and for each of its roots.
    """
    if not planes:
        return ()
    principals = [
        {"authenticated": {"principal_name": match}} for plane in planes for match in _uris(plane)
    ]
    policy = {"permissions": [{"any": True}], "principals": principals}
    return (
        extension(
            "envoy.filters.http.rbac",
            "envoy.extensions.filters.http.rbac.v3.RBAC",
            rules={"action": "DENY", "policies": {"revoked": policy}},
        ),
    )


def _uris(plane: str) -> tuple[Json, Json]:
    """Return what matches either URI of a plane; of a SPIFFE ID in every trust domain.

    A gateway is not told which domain is the fleet's: refusing too many of its authorities'
    certificates is right, letting one in is not.
    """
    project, name = parse_full_name(plane, "planes")
    return {"exact": plane_uri(project, name)}, {"suffix": spiffe_path(project, PLANE, name)}


def build_secrets(tls: PeerTls) -> tuple[Json, ...]:
    """Return the gateway's certificate and its authority; renewed files are read by themselves."""
    secret = "envoy.extensions.transport_sockets.tls.v3.Secret"
    certificate_folder = tls.certificate_path.rpartition("/")[0]
    authority_folder = tls.authority_path.rpartition("/")[0]
    return (
        typed(
            secret,
            name=IDENTITY_SECRET,
            tls_certificate={
                "certificate_chain": {"filename": tls.certificate_path},
                "private_key": {"filename": tls.key_path},
                "watched_directory": {"path": certificate_folder},
            },
        ),
        typed(
            secret,
            name=AUTHORITY_SECRET,
            validation_context={
                "trusted_ca": {"filename": tls.authority_path},
                "watched_directory": {"path": authority_folder},
            },
        ),
    )


def _secret_source(files_root: str, name: str) -> Json:
    return {"name": name, "sds_config": file_source(files_root, f"secrets/{name}.json")}
