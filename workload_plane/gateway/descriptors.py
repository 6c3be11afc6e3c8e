"""What the gateway must know of openengine.v1 to route and count its calls."""

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from skerry.api.openengine.v1 import openengine_pb2


def descriptor_set() -> bytes:
    """Return openengine.v1's descriptors with all imports, as the gateway needs them."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            add(needed)
        found.setdefault(file.name, file)

    add(openengine_pb2.DESCRIPTOR)
    result = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(result.file.add())
    return result.SerializeToString(deterministic=True)
