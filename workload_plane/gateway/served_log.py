"""The gateway's own record of where each request went: a line for each attempt, in a file.

Pure; `listeners` adds it to what Envoy logs. It needs neither picker nor agent:
`workload_plane.residency` rolls the lines up later, for the proof of residency. They are written
when a request is sent, not when it ends: a long stream is proven too, and one that a dying gateway
cut. A stream through the relay is logged where the relay asks again; what no host was sent is not.
"""

from workload_plane.gateway.wire import DEPLOYMENT_HEADER, Json, extension

# Directly below the gateway's folder: a trial start moves the path with the others.
SERVED_LOG = "served.log"
# Of an attempt, as it is sent: when it began, the cluster, the host, and "peer" where that is
# another plane's gateway. Nothing in it is the client's to choose.
SENT_LINE = (
    "S|%START_TIME(%s.%3f)%|%UPSTREAM_CLUSTER%|%UPSTREAM_HOST_NAME%"
    "|%UPSTREAM_METADATA(envoy.transport_socket_match:hop)%\n"
)
# Of a request that another plane's gateway forwarded, as it comes: whose it is, and the names in
# the certificate of that gateway.
TAKEN_LINE = f"T|%START_TIME(%s.%3f)%|%REQ({DEPLOYMENT_HEADER})%|%DOWNSTREAM_PEER_DNS_SAN%\n"


def sent_log(files_root: str) -> Json:
    """Return the log of a router's attempts, each once it has its host."""
    return {**_file(files_root, SENT_LINE), "filter": _type("UpstreamPoolReady")}


def taken_log(files_root: str) -> Json:
    """Return the log of the peers' listener: each forwarded request as it comes."""
    named = {"header_filter": {"header": {"name": DEPLOYMENT_HEADER, "present_match": True}}}
    both = {"filters": [_type("DownstreamStart"), named]}
    return {**_file(files_root, TAKEN_LINE), "filter": {"and_filter": both}}


def _file(files_root: str, line: str) -> Json:
    return extension(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=f"{files_root}/{SERVED_LOG}",
        log_format={"text_format_source": {"inline_string": line}},
    )


def _type(name: str) -> Json:
    return {"log_type_filter": {"types": [name]}}


def not_started() -> Json:
    """Return the filter of another log beside `taken_log`: nothing as requests come."""
    return {"log_type_filter": {"types": ["DownstreamStart"], "exclude": True}}
