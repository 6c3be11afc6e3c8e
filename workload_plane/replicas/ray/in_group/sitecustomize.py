"""Lets a driver of Ray's find itself in the placement group that holds its replica's accelerators.

Ray's drivers belong to none. TensorRT-LLM and vLLM then make one of their own, on whichever nodes
are free, though both take the current one if there is one. The launcher puts this folder into
PYTHONPATH; it runs in the engine's own interpreter, knows nothing of Skerry there, and does nothing
before Ray is imported.
"""

import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

VARIABLE = "SKERRY_RAY_PLACEMENT_GROUP"
# A raylet that is started again takes its node's bundles along: until they are held again.
LOOKS_MAX = 120
_LOOK_SECONDS = 1.0
_MODULE = "ray.util.placement_group"
_HERE = os.path.dirname(os.path.abspath(__file__))


class _Finder:
    """Finds one module, and has it changed once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            load = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                put_inside(module, os.environ[VARIABLE])

            loader.exec_module = exec_module
        return spec


def put_inside(module: Any, wanted: str) -> None:
    """Have the module tell the group of the name as the current one, where there is no other."""
    told = module.get_current_placement_group

    def get_current_placement_group() -> Any:
        group = told()
        return named(module, wanted) if group is None else group

    module.get_current_placement_group = get_current_placement_group


def named(module: Any, wanted: str) -> Any:
    """Return the group of the name once it has all that it asked for; raises RuntimeError."""
    import ray

    for _ in range(LOOKS_MAX):
        # By its number: names are looked for in the engine's own namespace only.
        for number, row in module.placement_group_table().items():
            if row["name"] == wanted and row["state"] == "CREATED":
                return module.PlacementGroup(ray.PlacementGroupID(bytes.fromhex(number)))
        threading.Event().wait(_LOOK_SECONDS)
    raise RuntimeError(f"Ray holds no placement group {wanted}, which the plane makes")


def _load_other() -> None:
    """Load the sitecustomize that this one stands before, if there is one."""
    others = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get(VARIABLE) and __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder())
    _load_other()
