"""The one door to the compiler of inner loops: pure functions on arrays, cached on disk.

Used by the modules that COMPILED names, and by benchmarks. Compiled code drops the interpreter's
lock and reads no clock; the first call ever of a function compiles it, later processes load it.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import numba  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from numpy.typing import NDArray

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Two element types only: each further one would compile every loop once more.
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HERE = Path(__file__).parent
COMPILED = (
    "ceilings.py",
    "compiled.py",
    "exchange.py",
    "nodes.py",
    "prices.py",
    "pricing.py",
    "rounding.py",
    "ruin.py",
    "verdicts.py",
)


def _digest() -> str:
    """Return a digest of the sources that hold compiled functions.

    The cache knows a function's own file only: a loop kept calling the old code of a function that
    it had compiled into itself from another file. One folder per state of them all cures it.
    """
    sources = b"".join((HERE / name).read_bytes() for name in COMPILED)
    return hashlib.sha256(sources).hexdigest()[:16]


if not getattr(numba.config, "CACHE_DIR", ""):
    numba.config.CACHE_DIR = str(  # type: ignore[attr-defined, unused-ignore]
        HERE / "__pycache__" / f"compiled-{_digest()}"
    )


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function compiled on first use, with its machine code cached beside its file."""
    made = numba.njit(cache=True, nogil=True, fastmath=False)(function)
    return cast(Callable[Arguments, Result], made)
