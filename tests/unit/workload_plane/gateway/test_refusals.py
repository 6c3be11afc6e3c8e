"""Tools are refused where the engine would ignore them, and nothing in a name runs as code.

What the filter does with real bodies is in tests/integration/test_openai_client.py.
"""

import dataclasses
import json
import re

import pytest

from skerry.fleet.desired import Assignment
from skerry.fleet.engine import EngineName
from tests.unit.workload_plane.converge.test_plan import a_deployment
from tests.unit.workload_plane.gateway.gateway_builders import a_model, a_topology, flat_routes
from tests.unit.workload_plane.gateway.test_routing import assigned, topology
from workload_plane.gateway.refusals import LUA_FILTER, refuse
from workload_plane.gateway.routes import build_routes


def with_engine(name: EngineName, **options: str) -> Assignment:
    deployment = a_deployment()
    engine = dataclasses.replace(
        deployment.revision.engine, name=name, options=tuple(options.items())
    )
    revision = dataclasses.replace(deployment.revision, engine=engine)
    return assigned(deployment=dataclasses.replace(deployment, revision=revision))


@pytest.mark.parametrize(
    ("assignment", "refuses"),
    [
        (with_engine(EngineName.LLAMACPP), True),
        (with_engine(EngineName.LLAMACPP, tools="false"), True),
        (with_engine(EngineName.LLAMACPP, tools="true"), False),
        (with_engine(EngineName.VLLM), False),
        (with_engine(EngineName.SIMULATED), False),
    ],
)
def test_only_llamacpp_without_a_word_about_tools_is_refused_them(
    assignment: Assignment, refuses: bool
) -> None:
    (model,) = topology(assignment).models
    assert model.refuses_tools is refuses


def test_only_the_paths_of_openai_of_that_model_ask_about_tools() -> None:
    models = (
        dataclasses.replace(a_model("plain"), refuses_tools=True),
        a_model("able"),
    )
    routes = flat_routes(build_routes(a_topology(*models))[0])
    asking = [route for route in routes if LUA_FILTER in route.get("typed_per_filter_config", {})]
    assert len(asking) == 2
    assert all("safe_regex" in route["match"] for route in asking)
    assert {route["route"]["cluster"] for route in asking} == {
        route["route"]["cluster"]
        for route in routes
        if "plain" in json.dumps(route) and "safe_regex" in route["match"] and "route" in route
    }


@pytest.mark.parametrize("name", ['a"b', "a\\", "a\n]]", "%s%d", "é\u2028", "x\x7f", "@DEEP@"])
def test_a_name_is_a_text_inside_the_code(name: str) -> None:
    setting = refuse({"error": {"message": name}}, guards=False)
    code = setting[LUA_FILTER]["source_code"]["inline_string"]
    found = re.search(r"^local ANSWER = (.*)$", code, re.MULTILINE)
    assert found is not None
    literal = found[1]
    # Lua knows these two escapes as JSON does; all else stands for itself.
    assert set(re.findall(r"\\(.)", literal)) <= {"\\", '"'}
    assert json.loads(json.loads(literal)) == {"error": {"message": name}}


def test_only_llamacpp_is_guarded_by_the_shape_of_requests() -> None:
    guarded = {name: topology(with_engine(name)).models[0].guarded for name in EngineName}
    assert [name for name, is_so in guarded.items() if is_so] == [EngineName.LLAMACPP]
    model = dataclasses.replace(a_model("fragile"), guarded=True)
    routes = flat_routes(build_routes(a_topology(model))[0])
    codes = {
        setting["source_code"]["inline_string"]
        for route in routes
        if (setting := route.get("typed_per_filter_config", {}).get(LUA_FILTER))
    }
    (code,) = codes
    assert "local ANSWER = nil" in code
    assert "local GUARDS = true" in code
    assert not re.search("@[A-Z]+@", code)
