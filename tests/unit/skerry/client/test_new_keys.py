"""Making an API key: what an older control plane drops is not taken for done."""

import pytest

from skerry.api.operator.v1 import keys_pb2
from skerry.client.api_keys import create_api_key
from skerry.fleet.api_key import KeyTerms, key_text
from skerry.plumbing.errors import Conflict


def test_a_key_that_was_made_without_its_bounds_is_told_with_what_to_do() -> None:
    terms = KeyTerms(deployments=("*",), tokens_per_minute=100)
    call = create_api_key("default", key_text("team", "A" * 43), terms, None, "r1")
    name = "projects/default/apiKeys/team"
    kept = keys_pb2.ApiKey(name=name, deployments=["*"], tokens_per_minute=100)
    assert call.read(kept).row.tokens_per_minute == 100
    dropped = keys_pb2.ApiKey(name=name, deployments=["*"])
    with pytest.raises(Conflict, match="skerry key revoke team"):
        call.read(dropped)
