"""The sources of a plane by scheme; the agent makes them, with the one HTTP session they share."""

import os
from collections.abc import Mapping

import aiohttp

from workload_plane.models.http_fetch import open_session
from workload_plane.models.https_source import HttpsSource
from workload_plane.models.hub_source import HubSource
from workload_plane.models.hub_token import HubToken
from workload_plane.models.limits import CacheSettings, FetchLimits
from workload_plane.models.object_source import ObjectSource
from workload_plane.models.port import Source
from workload_plane.models.uris import GCS, HTTP, HTTPS, HUB, S3


def model_session(settings: CacheSettings, limits: FetchLimits) -> aiohttp.ClientSession:
    """Return the session for `sources`; whoever asks closes it."""
    return open_session(
        allow_private_addresses=settings.allow_private_addresses,
        stall_seconds=limits.stall_seconds,
    )


def sources(
    settings: CacheSettings, session: aiohttp.ClientSession, limits: FetchLimits
) -> Mapping[str, Source]:
    """Return every source by its URIs' scheme."""
    private = settings.allow_private_addresses
    plain = HttpsSource(session, allow_private_addresses=private)
    return {
        HUB: HubSource(
            session,
            settings.hub_endpoint,
            HubToken(settings, os.environ),
            allow_private_addresses=private,
        ),
        S3: ObjectSource(S3, stall_seconds=limits.stall_seconds),
        GCS: ObjectSource(GCS, stall_seconds=limits.stall_seconds),
        HTTPS: plain,
        HTTP: plain,
    }
