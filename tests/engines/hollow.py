"""Stand-ins for modules that SGLang imports on the way and whose work is not asked of it here.

torchvision, and sgl_kernel, which needs an accelerator's libraries to be imported at all.
"""

import importlib.abc
import importlib.machinery
import sys
import types

from transformers.utils import import_utils


class _Empty(type):
    """A class of which every attribute is another."""

    def __getattr__(cls, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _Hollow(types.ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what there is not."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        is_ours = name.split(".")[0] in self._names
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave the module as it is."""


def install(*names: str) -> None:
    """Have every later import find modules of these names where there are none."""
    import_utils.is_torchvision_available()  # asks once and remembers: there is none
    sys.meta_path.append(_Absent(names))
