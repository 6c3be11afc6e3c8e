"""What a replica's processes see of the environment that the agent was started in.

Whoever starts a replica host takes out what the sources of base models are asked with, and what
opens the fleet and its cluster; the host gives its engine what is on a list, and nothing that is
called a secret: an engine is given files, and runs the code of whoever published it.
"""

from collections.abc import Mapping

from workload_plane.engine_user import EngineUser

# As `models.hub_source` and `models.object_source` read them, and as the hub's own library does.
_SECRETS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN")
_STORES = ("AWS_", "GOOGLE_")
# Of whoever typed `skerry up`: a replica asks no gateway and no control plane, and one over many
# nodes is told where the cluster's token is.
_OF_OPERATORS = ("SKERRY_API_KEY", "SKERRY_TOKEN", "SKERRY_DATABASE_URL", "RAY_AUTH_TOKEN")
# What programs need to run at all, then what engines, their libraries and drivers are tuned by.
_NAMES = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR HOSTNAME LD_LIBRARY_PATH LD_PRELOAD
    PYTHONPATH PYTHONHOME PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE PYTHONHASHSEED PYTHONWARNINGS
    PYTHONFAULTHANDLER PYTHONPYCACHEPREFIX VIRTUAL_ENV CONDA_PREFIX SSL_CERT_FILE SSL_CERT_DIR
    XDG_CACHE_HOME XDG_RUNTIME_DIR MALLOC_ARENA_MAX MALLOC_CONF HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE
    TRANSFORMERS_CACHE TRANSFORMERS_OFFLINE TOKENIZERS_PARALLELISM MASTER_ADDR MASTER_PORT
"""
_PREFIXES = """
    LC_ CUDA NVIDIA_ NVSHMEM_ NCCL_ UCX_ GLOO_ FI_ IB_ HIP_ HSA_ ROCM_ ROCR_ RCCL_ AMD_ GPU_ OMP_
    GOMP_ MKL_ KMP_ OPENBLAS_ NUMEXPR_ BLIS_ TORCH PYTORCH_ TRITON_ INDUCTOR_ FLASHINFER_ VLLM_
    SGLANG_ SGL_ TRTLLM_ TLLM_ TENSORRT_ TRT_ GGML_ LLAMA_ MC_ MOONCAKE_ LMCACHE_ NIXL_ OMPI_ PMIX_
    PRTE_ SLURM_
"""
# The launcher gives them to the host of a replica over many nodes alone: its engine's ranks are
# Ray's, so that engine has to find the cluster.
_OF_RANKS = """
    RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER
    SKERRY_RAY_PLACEMENT_GROUP
"""
_SECRET_WORDS = "TOKEN TOKENS SECRET SECRETS PASSWORD PASSWD KEY KEYS CREDENTIALS"
_given, _prefixes = frozenset(_NAMES.split()), tuple(_PREFIXES.split())
_of_ranks, _secret_words = frozenset(_OF_RANKS.split()), frozenset(_SECRET_WORDS.split())


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without credentials of base models' sources, and of operators."""
    return {
        key: value
        for key, value in environment.items()
        if key not in (*_SECRETS, *_OF_OPERATORS) and not key.startswith(_STORES)
    }


def for_engine(
    environment: Mapping[str, str], named: tuple[str, ...], user: EngineUser | None
) -> dict[str, str]:
    """Return what an engine is given of its host's environment: what is listed here, or `named`.

    One with a user of its own has that one's home, and the system's directory for what passes.
    """
    given = {
        key: value
        for key, value in environment.items()
        if key in named or key in _of_ranks or _is_given(key)
    }
    if user is None:
        return given
    for key in ("TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "USER", "LOGNAME"):
        given.pop(key, None)
    return {**given, "HOME": str(user.home)}


def _is_given(name: str) -> bool:
    # By whole words: TOKENIZERS_PARALLELISM is no token.
    is_secret = not _secret_words.isdisjoint(name.upper().split("_"))
    return not is_secret and (name in _given or name.startswith(_prefixes))
