"""Engines do not inherit what the plane asks the sources of base models with."""

from pathlib import Path

from workload_plane.engine_user import EngineUser
from workload_plane.models import hub_token, object_source
from workload_plane.replica_host.environment import for_engine, without_credentials


def test_credentials_of_sources_stay_with_the_agent_and_all_else_is_passed_on() -> None:
    kept = {"PATH": "/bin", "HF_HOME": "/cache", "HF_HUB_OFFLINE": "1", "CUDA_HOME": "/cuda"}
    secret = {
        hub_token.TOKEN_VARIABLE: "t",
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


def test_what_opens_the_fleet_and_its_cluster_is_no_replicas() -> None:
    told = {
        "SKERRY_API_KEY": "k",
        "SKERRY_TOKEN": "t",
        "SKERRY_DATABASE_URL": "postgresql://a:secret@b/c",
        "RAY_AUTH_TOKEN": "t",
    }
    kept = {"SKERRY_ENGINE_PYTHON": "/bin/python", "RAY_AUTH_TOKEN_PATH": "/token"}
    assert without_credentials(told | kept) == kept


def test_an_engine_is_given_what_is_listed_and_nothing_that_is_called_a_secret() -> None:
    told = {
        "PATH": "/bin",
        "HOME": "/root",
        "TMPDIR": "/root/tmp",
        "CUDA_HOME": "/usr/local/cuda",
        "VLLM_LOGGING_LEVEL": "INFO",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_API_KEY": "1",
        "SKERRY_API_KEY": "2",
        "DATABASE_URL": "3",
        "HF_TOKEN": "4",
        "SITE_SPECIFIC": "5",
        "SITE_TOKEN": "6",
    }
    given = {"PATH", "HOME", "TMPDIR", "CUDA_HOME", "VLLM_LOGGING_LEVEL", "TOKENIZERS_PARALLELISM"}
    assert set(for_engine(told, (), None)) == given
    assert set(for_engine(told, ("SITE_TOKEN",), None)) == given | {"SITE_TOKEN"}
    user = EngineUser(uid=7, gid=7, home=Path("/srv/engines"), within=Path("/srv"))
    its_own = for_engine(told, (), user)
    assert set(its_own) == given - {"TMPDIR"}
    assert its_own["HOME"] == "/srv/engines"
