"""Which fleet the client talks to: a small YAML file, overridden by variables and options.

`skerry up` writes one as `config.yaml` into its data directory; every command loads one through
`load_context`. The nearest wins: --endpoint, SKERRY_ENDPOINT, --config, SKERRY_CONFIG, and then
the file of the default data directory. A credential is SKERRY_TOKEN, what is in SKERRY_TOKEN_FILE,
or in the file's `tokenFile`; that one is for the endpoints that stand beside it, and no others. An
API key, for gateways, is SKERRY_API_KEY, or in the file's `apiKeyFile`, for that fleet's gateways.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from skerry.client.credentials import check_token
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.plumbing import yaml_document
from skerry.plumbing.errors import InvalidInput, NotFound

CONFIG_NAME = "config.yaml"
ENDPOINTS_MAX = 16  # each is tried in turn: more would only hide that none answers
_FIELDS = (
    "apiVersion",
    "kind",
    "endpoint",
    "endpoints",
    "project",
    "dataDirectory",
    "tokenFile",
    "apiKeyFile",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where the operator API answers, and the data directory of the fleet when it is this host's.

    `endpoints` as `host:port`, tried in order. The client shows `token`, or what `token_file` holds
    when it is made. `api_key_file` is what the fleet's own gateways are shown.
    """

    endpoints: tuple[str, ...]
    project: str = DEFAULT_PROJECT
    data_directory: Path | None = None
    token_file: Path | None = None
    api_key_file: Path | None = None
    token: str = field(default="", repr=False)


def default_data_directory(environment: Mapping[str, str]) -> Path:
    """Return where a fleet of this host lives unless told: SKERRY_DATA_DIR, or ~/.skerry."""
    named = environment.get("SKERRY_DATA_DIR")
    return Path(named) if named else Path(environment.get("HOME", ".")) / ".skerry"


def load_context(
    config: Path | None, endpoint: str | None, environment: Mapping[str, str]
) -> Context:
    """Return the context in force; NotFound or InvalidInput say what to give instead."""
    endpoint = endpoint or environment.get("SKERRY_ENDPOINT")
    named = config or (Path(v) if (v := environment.get("SKERRY_CONFIG")) else None)
    path = named or default_data_directory(environment) / CONFIG_NAME
    if endpoint is None or named is not None:
        context = _read(path, is_needed=True)
    else:
        context = _read(path, is_needed=False)
    if endpoint is not None:
        endpoints = _check_endpoints(endpoint.split(","), "the endpoint")
        is_same = set(endpoints) <= set(context.endpoints)
        context = Context(
            endpoints=endpoints,
            project=context.project,
            data_directory=context.data_directory if named else None,
            # One fleet's token is not shown to another.
            token_file=context.token_file if is_same else None,
            api_key_file=context.api_key_file if is_same else None,
        )
    return _with_credential(context, environment)


def _with_credential(context: Context, environment: Mapping[str, str]) -> Context:
    if text := environment.get("SKERRY_TOKEN"):
        return replace(context, token=check_token(text.strip(), "SKERRY_TOKEN"))
    if path := environment.get("SKERRY_TOKEN_FILE"):
        return replace(context, token_file=Path(path))
    return context


def render_context(context: Context) -> str:
    """Return the YAML text of a context file."""
    lines = [
        "# The client's context: `skerry --config THIS_FILE ...`, or SKERRY_CONFIG=THIS_FILE.",
        "apiVersion: skerry/v1",
        "kind: Context",
        f"endpoint: {context.endpoints[0]}",
    ]
    if len(context.endpoints) > 1:
        lines += ["endpoints:", *(f"  - {endpoint}" for endpoint in context.endpoints)]
    lines.append(f"project: {context.project}")
    if context.data_directory is not None:
        quoted = str(context.data_directory).replace("'", "''")
        lines.append(f"dataDirectory: '{quoted}'")
    for name, path in (("tokenFile", context.token_file), ("apiKeyFile", context.api_key_file)):
        if path is not None:
            quoted = str(path).replace("'", "''")
            lines.append(f"{name}: '{quoted}'")
    return "\n".join(lines) + "\n"


def _read(path: Path, *, is_needed: bool) -> Context:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not is_needed:
            return Context(endpoints=())
        raise NotFound(
            f"there is no context file {path}; start a fleet with `skerry up`, name the file"
            " with --config or SKERRY_CONFIG, or give --endpoint HOST:PORT"
        ) from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; it must be a readable file") from None
    document = yaml_document.parse(text, str(path))[0]
    values = document.value
    if not isinstance(values, dict):
        raise document.fault((), "must be a mapping with `endpoint: HOST:PORT`")
    for name in values:
        if name not in _FIELDS:
            raise document.fault((name,), f"unknown field; known here: {', '.join(_FIELDS)}")
    listed = values.get("endpoints") or [values.get("endpoint")]
    if not isinstance(listed, list) or not all(isinstance(e, str) for e in listed):
        raise document.fault(("endpoint",), "must be HOST:PORT")
    project, directory = values.get("project", DEFAULT_PROJECT), values.get("dataDirectory")
    token_file, key_file = values.get("tokenFile"), values.get("apiKeyFile")
    if not isinstance(project, str):
        raise document.fault(("project",), "must be text")
    if directory is not None and not isinstance(directory, str):
        raise document.fault(("dataDirectory",), "must be a path")
    if token_file is not None and not isinstance(token_file, str):
        raise document.fault(("tokenFile",), "must be a path")
    if key_file is not None and not isinstance(key_file, str):
        raise document.fault(("apiKeyFile",), "must be a path")
    return Context(
        endpoints=_check_endpoints([str(e) for e in listed], str(path)),
        project=project,
        data_directory=(path.parent / directory) if directory else None,
        token_file=(path.parent / token_file) if token_file else None,
        api_key_file=(path.parent / key_file) if key_file else None,
    )


def _check_endpoints(texts: list[str], source: str) -> tuple[str, ...]:
    endpoints = tuple(text.strip() for text in texts if text.strip())
    if not 1 <= len(endpoints) <= ENDPOINTS_MAX:
        raise InvalidInput(f"{source}: give 1 to {ENDPOINTS_MAX} endpoints as HOST:PORT")
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidInput(f"{source}: {endpoint[:120]!r} is not HOST:PORT")
    return endpoints
