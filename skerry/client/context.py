"""Which fleet the client talks to: a small YAML file, overridden by variables and options.

`skerry up` writes one as `config.yaml` into its data directory; every command loads one through
`load_context`. The nearest wins: --endpoint, SKERRY_ENDPOINT, --config, SKERRY_CONFIG, and then
the file of the default data directory. A credential is SKERRY_TOKEN, what is in SKERRY_TOKEN_FILE,
or in the file's `tokenFile`; that one is for the endpoints that stand beside it, and no others, and
so is `caFile`, whose authorities vouch for them. Without a `caFile` the way there is plaintext. An
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
_PATHS = ("dataDirectory", "tokenFile", "apiKeyFile", "caFile")
_FIELDS = ("apiVersion", "kind", "endpoint", "endpoints", "project", "serverName", *_PATHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where the operator API answers, and the data directory of the fleet when it is this host's.

    `endpoints` as `host:port`, tried in order. The client shows `token`, or what `token_file` holds
    when it is made. `api_key_file` is what the fleet's own gateways are shown. With a `ca_file` it
    asks by TLS, and believes who has a certificate of that authority for `server_name`, or where
    that is empty for the endpoint's host.
    """

    endpoints: tuple[str, ...]
    project: str = DEFAULT_PROJECT
    data_directory: Path | None = None
    token_file: Path | None = None
    api_key_file: Path | None = None
    token: str = field(default="", repr=False)
    ca_file: Path | None = None
    server_name: str = ""


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
        # One fleet's token is not shown to another, and its authority vouches for no other.
        known = context if set(endpoints) <= set(context.endpoints) else Context(endpoints=())
        context = Context(
            endpoints=endpoints,
            project=context.project,
            data_directory=context.data_directory if named else None,
            token_file=known.token_file,
            api_key_file=known.api_key_file,
            ca_file=known.ca_file,
            server_name=known.server_name,
        )
    if path_of_ca := environment.get("SKERRY_CA_FILE"):
        name = environment.get("SKERRY_SERVER_NAME", "")
        context = replace(context, ca_file=Path(path_of_ca), server_name=name)
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
    paths = (context.data_directory, context.token_file, context.api_key_file, context.ca_file)
    for name, told in zip(_PATHS, paths, strict=True):
        if told is not None:
            quoted = str(told).replace("'", "''")
            lines.append(f"{name}: '{quoted}'")
    if context.server_name:
        lines.append(f"serverName: {context.server_name}")
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
    project, server_name = values.get("project", DEFAULT_PROJECT), values.get("serverName", "")
    for name, said in (("project", project), ("serverName", server_name)):
        if not isinstance(said, str):
            raise document.fault((name,), "must be text")
    if server_name and not values.get("caFile"):
        raise document.fault(("serverName",), "needs a caFile: without one nothing is checked")
    paths: dict[str, Path | None] = {}
    for name in _PATHS:
        told = values.get(name)
        if told is not None and not isinstance(told, str):
            raise document.fault((name,), "must be a path")
        paths[name] = (path.parent / told) if told else None
    return Context(
        endpoints=_check_endpoints([str(e) for e in listed], str(path)),
        project=str(project),
        data_directory=paths["dataDirectory"],
        token_file=paths["tokenFile"],
        api_key_file=paths["apiKeyFile"],
        ca_file=paths["caFile"],
        server_name=str(server_name),
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
