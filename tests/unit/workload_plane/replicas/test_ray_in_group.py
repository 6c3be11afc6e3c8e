"""An engine over nodes finds itself in its replica's placement group, whatever its interpreter.

Ray is a stand-in here: a package of three files. The real one: tests/integration/test_ray_ranks.py.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from workload_plane.replicas.ray import in_group

pytestmark = pytest.mark.integration

IN_GROUP = Path(in_group.__file__).parent
GROUP = "skerry/here/demo-r1-a"
_RAY = """
class PlacementGroupID(bytes):
    pass
"""
_PLACEMENT_GROUP = """
import os
class PlacementGroup:
    def __init__(self, id):
        self.id = id
def get_current_placement_group():
    own = os.environ.get("OWN")
    return PlacementGroup(bytes.fromhex(own)) if own else None
def placement_group_table():
    return {
        "01": {"name": "skerry/here/other", "state": "CREATED"},
        "02": {"name": "skerry/here/demo-r1-a", "state": "REMOVED"},
        "03": {"name": "skerry/here/demo-r1-a", "state": "CREATED"},
    }
"""
# As vLLM asks, and as TensorRT-LLM does.
_ASK = """
import ray.util
from ray.util.placement_group import get_current_placement_group
for ask in (ray.util.get_current_placement_group, get_current_placement_group):
    group = ask()
    print(group.id.hex() if group else "none")
"""


def _ask(tmp_path: Path, script: str = _ASK, **environment: str) -> list[str]:
    util = tmp_path / "ray" / "util"
    util.mkdir(parents=True, exist_ok=True)
    (tmp_path / "ray" / "__init__.py").write_text(_RAY)
    (util / "__init__.py").write_text("from .placement_group import get_current_placement_group")
    (util / "placement_group.py").write_text(_PLACEMENT_GROUP)
    path = os.pathsep.join((str(IN_GROUP), str(tmp_path)))
    env: Mapping[str, str] = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.split()


def test_a_driver_is_in_the_group_that_holds_its_accelerators(tmp_path: Path) -> None:
    assert _ask(tmp_path, SKERRY_RAY_PLACEMENT_GROUP=GROUP) == ["03", "03"]


def test_a_process_that_is_in_a_group_already_stays_in_it(tmp_path: Path) -> None:
    assert _ask(tmp_path, SKERRY_RAY_PLACEMENT_GROUP=GROUP, OWN="07") == ["07", "07"]


def test_without_a_group_nothing_is_changed(tmp_path: Path) -> None:
    assert _ask(tmp_path) == ["none", "none"]


def test_what_python_would_load_otherwise_is_loaded_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.other = 'loaded'")
    script = "import sys; print(sys.other)"
    assert _ask(tmp_path, script, SKERRY_RAY_PLACEMENT_GROUP=GROUP) == ["loaded"]
