"""When a host that passes its health checks is left out all the same: its answers are errors.

Pure. `clusters` tells Envoy so; the picker, whose choice Envoy takes whatever it thinks of the
host, goes by the same numbers.
"""

from workload_plane.gateway.wire import Json, duration

# A replica whose every answer is an error, though its health is good, draws requests: it is always
# free. It is out after so many in a row, for longer each time, and at most a third of the replicas
# and peers are: one wrong request, sent again and again, fails everywhere and must not empty a
# pool. A single host is never out.
ERRORS_IN_A_ROW = 20
GATEWAY_ERRORS_IN_A_ROW = 10  # 502, 503, 504, connections refused or reset
EJECTED_PERCENT_MAX = 34
EJECTION_SECONDS = 5.0
EJECTION_SECONDS_MAX = 60.0
_LOOK_SECONDS = 1.0


def counted_unless(header: str) -> Json:
    """Return which answers over HTTP count as errors of a host: every 5xx without that header.

    It is the waiting room's on what it refuses: it failed nobody, and a host that is out takes the
    place of one that should be.
    """
    is_error = {"name": ":status", "range_match": {"start": 500, "end": 600}}
    is_own = {"name": header, "present_match": True, "invert_match": True}
    return {"error_matcher": {"http_response_headers_match": {"headers": [is_error, is_own]}}}


def outlier_detection() -> Json:
    """Return after what Envoy leaves out a host that passes its health checks."""
    return {
        "consecutive_5xx": ERRORS_IN_A_ROW,
        "consecutive_gateway_failure": GATEWAY_ERRORS_IN_A_ROW,
        "enforcing_consecutive_gateway_failure": 100,
        # Statistics over hosts need more of them and more requests than a deployment has.
        "enforcing_success_rate": 0,
        "interval": duration(_LOOK_SECONDS),
        "base_ejection_time": duration(EJECTION_SECONDS),
        "max_ejection_time": duration(EJECTION_SECONDS_MAX),
        "max_ejection_percent": EJECTED_PERCENT_MAX,
        "always_eject_one_host": False,
        # By default the next good health check, half a second later, takes the host in again.
        "successful_active_health_check_uneject_host": False,
    }
