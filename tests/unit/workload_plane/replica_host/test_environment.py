"""Engines do not inherit what the plane asks the sources of base models with."""

from workload_plane.models import hub_source, object_source
from workload_plane.replica_host.environment import without_credentials


def test_credentials_of_sources_stay_with_the_agent_and_all_else_is_passed_on() -> None:
    kept = {"PATH": "/bin", "HF_HOME": "/cache", "HF_HUB_OFFLINE": "1", "CUDA_HOME": "/cuda"}
    secret = {
        hub_source.TOKEN_VARIABLE: "t",
        "HF_TOKEN_PATH": "/t",
        "HUGGING_FACE_HUB_TOKEN": "t",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "s",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "s",
        "GOOGLE_APPLICATION_CREDENTIALS": "/key",
        "GOOGLE_SERVICE_ACCOUNT": "/key",
        **dict.fromkeys(object_source.ENDPOINTS, "http://store"),
    }
    assert without_credentials(kept | secret) == kept
