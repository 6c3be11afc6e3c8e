"""OR-Tools' modelling modules, imported when the first model is made.

They bring numpy and pandas along: 75 MB and half a second that a control plane never needs, whose
solver is a process of its own. `exact.py`, `certificate.py` and `conflicts.py` take them from here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ortools.linear_solver import pywraplp as pywraplp
    from ortools.sat.python import cp_model as cp_model
else:
    from importlib import import_module

    class _Lazily:
        """A module that is imported when it is first asked for anything."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            found = getattr(import_module(self._name), attribute)
            setattr(self, attribute, found)  # the next time without a detour
            return found

    cp_model = _Lazily("ortools.sat.python.cp_model")
    pywraplp = _Lazily("ortools.linear_solver.pywraplp")
