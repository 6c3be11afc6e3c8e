"""Generates docs/reference/ and docs/schema/ from the definitions: `make reference`.

`api.md` is made of proto/skerry/api/operator and what it uses, `cli.md` of the commands themselves,
`skerry.json` is the JSON Schema of files of every kind for editors, `deployment.json` that of
deployments alone. A test compares them with what is checked in.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PROTO = ROOT / "proto"
PACKAGES = ("skerry.api.operator.v1", "skerry.api.common.v1")
MADE = "Made by `python tools/gen_reference.py`; do not edit.\n"
# Field numbers of descriptor.proto: where a comment is told to stand.
MESSAGES, ENUMS, SERVICES, FIELDS, VALUES, METHODS, NESTED_ENUMS = 4, 5, 6, 2, 2, 2, 4

Comments = Mapping[tuple[int, ...], str]


def descriptors() -> FileDescriptorSet:
    """Return the files of the operator API with their comments."""
    include = resources.files("grpc_tools") / "_proto"
    files = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "skerry/api").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{include}"]
        command += ["--include_source_info", f"--descriptor_set_out={target}", *files]
        subprocess.run(command, cwd=PROTO, check=True)
        return FileDescriptorSet.FromString(target.read_bytes())


def api_page(found: FileDescriptorSet) -> str:
    """Return the page of all services, then of all messages by package."""
    files = [file for file in found.file if file.package in PACKAGES]
    lines = ["# The operator API\n", MADE, "Conventions: names under `projects/PROJECT`, pages by"]
    lines += [
        "`page_size` and `page_token`, AIP-160 filters, AIP-132 orders, `etag` and `request_id` on",
        "writes, errors as `google.rpc.Status` with `ErrorInfo`, `BadRequest` and `RetryInfo`.",
        "Metadata: `authorization: Bearer TOKEN` says who calls (where no credential is asked for,",
        "`x-skerry-actor`), `x-skerry-reason-bin` why (UTF-8).\n",
    ]
    for file in files:
        comments = comments_of(file)
        for number, service in enumerate(file.service):
            lines += service_lines(service, comments, (SERVICES, number))
    for package in PACKAGES:
        lines.append(f"## Messages of {package}\n")
        for file in (f for f in files if f.package == package):
            comments = comments_of(file)
            for number, message in enumerate(file.message_type):
                lines += message_lines(message, comments, (MESSAGES, number))
            for number, enum in enumerate(file.enum_type):
                lines += enum_lines(enum, comments, (ENUMS, number))
    return "\n".join(lines).rstrip() + "\n"


def comments_of(file: FileDescriptorProto) -> Comments:
    """Return the comment before each thing of a file, by its path."""
    return {
        tuple(place.path): " ".join(place.leading_comments.split())
        for place in file.source_code_info.location
        if place.leading_comments.strip()
    }


def service_lines(
    service: ServiceDescriptorProto, comments: Comments, path: tuple[int, ...]
) -> Iterator[str]:
    """Yield the lines of a service."""
    yield f"## {service.name}\n"
    if path in comments:
        yield comments[path] + "\n"
    yield "| method | request | answer | |"
    yield "|---|---|---|---|"
    for number, method in enumerate(service.method):
        stream = "stream of " if method.server_streaming else ""
        told = comments.get((*path, METHODS, number), "")
        request, answer = short(method.input_type), short(method.output_type)
        yield f"| `{method.name}` | {request} | {stream}{answer} | {cell(told)} |"
    yield ""


def message_lines(
    message: DescriptorProto, comments: Comments, path: tuple[int, ...], within: str = ""
) -> Iterator[str]:
    """Yield the lines of a message and of what is nested in it."""
    if message.options.map_entry:
        return
    name = f"{within}{message.name}"
    yield f"### {name}\n"
    if path in comments:
        yield comments[path] + "\n"
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    if message.field:
        yield "| field | type | |"
        yield "|---|---|---|"
    for number, field in enumerate(message.field):
        told = comments.get((*path, FIELDS, number), "")
        yield f"| `{field.name}` | {type_of(field, entries)} | {cell(told)} |"
    yield ""
    for number, nested in enumerate(message.nested_type):
        yield from message_lines(nested, comments, (*path, 3, number), f"{name}.")
    for number, enum in enumerate(message.enum_type):
        yield from enum_lines(enum, comments, (*path, NESTED_ENUMS, number), f"{name}.")


def enum_lines(
    enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...], within: str = ""
) -> Iterator[str]:
    """Yield the lines of an enum."""
    yield f"### {within}{enum.name}\n"
    if path in comments:
        yield comments[path] + "\n"
    yield "| value | number | |"
    yield "|---|---|---|"
    for number, value in enumerate(enum.value):
        told = comments.get((*path, VALUES, number), "")
        yield f"| `{value.name}` | {value.number} | {cell(told)} |"
    yield ""


def type_of(field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto]) -> str:
    """Return a field's type as people read it."""
    if field.type_name:
        entry = entries.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            return f"map of {type_of(entry.field[0], {})} to {type_of(entry.field[1], {})}"
        name = short(field.type_name)
    else:
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def short(name: str) -> str:
    """Return a type's name without our own packages."""
    bare = name.removeprefix(".")
    for package in PACKAGES:
        bare = bare.removeprefix(f"{package}.")
    return bare


def cell(text: str) -> str:
    """Return a text that fits a table's cell."""
    return text.replace("|", "\\|")


def cli_page() -> str:
    """Return the page of all commands."""
    import typer

    from skerry.cli.main import app

    root = typer.main.get_command(app)
    lines = ["# The command line\n", MADE]
    lines += ["Options that every command takes, anywhere on the line:\n", *options_of(root)]
    lines += commands_of(root, "skerry")
    return "\n".join(lines).rstrip() + "\n"


def commands_of(group: Any, path: str) -> Iterator[str]:
    """Yield the lines of a group's commands, deepest names as they are typed."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        full = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from commands_of(command, full)
            continue
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(
            f"{a.name.upper()}" if a.required else f"[{a.name.upper()}]" for a in arguments
        )
        yield f"## {full}\n"
        yield f"`{full} {usage}`".replace(" `", "`") + "\n"
        yield " ".join((command.help or "").split()) + "\n"
        yield from options_of(command)


def options_of(command: Any) -> Iterator[str]:
    """Yield the table of a command's options and arguments."""
    told = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    if not told:
        return
    yield "| | |"
    yield "|---|---|"
    for parameter in told:
        names = ", ".join((*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = parameter.name.upper()
        need = " Required." if parameter.required else ""
        yield f"| `{names}` | {cell(' '.join((parameter.help or '').split()))}{need} |"
    yield ""


def main() -> None:
    """Write the pages, or with --check exit 1 when they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    check = parser.parse_args().check
    found = pages()
    differ = [name for name, text in found.items() if _held(name) != text]
    if check and differ:
        sys.exit(f"docs differ from the definitions: {', '.join(differ)}; run `make reference`")
    for name in () if check else differ:
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(found[name])


def pages() -> Mapping[str, str]:
    """Return every page by its path below docs/."""
    return {
        "reference/api.md": api_page(descriptors()),
        "reference/cli.md": cli_page(),
        "schema/deployment.json": deployment_schema(),
        "schema/skerry.json": schema(),
    }


def deployment_schema() -> str:
    """Return the JSON Schema of a deployment file."""
    from skerry.client.manifest_schema import DeploymentFile

    return as_schema(DeploymentFile.model_json_schema(by_alias=True, mode="validation"))


def schema() -> str:
    """Return the JSON Schema of a file of any kind: one of them, by its `kind`."""
    from pydantic.json_schema import models_json_schema

    from skerry.client.manifest import FILES

    refs, told = models_json_schema(
        [(file, "validation") for file in FILES.values()], by_alias=True
    )
    # Not one `oneOf`: editors would tell of a fault that the file is none of nine kinds.
    kinds = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": refs[file, "validation"],
        }
        for kind, file in FILES.items()
    ]
    shape = {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {"kind": {"enum": list(FILES)}},
        "allOf": kinds,
    }
    return as_schema({**told, **shape})


def as_schema(told: Mapping[str, Any]) -> str:
    """Return a JSON Schema as it is checked in."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "skerry/v1"}
    return json.dumps({**told, **head}, indent=1, sort_keys=True) + "\n"


def _held(name: str) -> str | None:
    path = DOCS / name
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    main()
