"""What of a source becomes the base model, and that no pickle does by accident."""

import pytest

from skerry.plumbing.errors import Corrupt, Denied, Infeasible, InvalidInput, NotFound, SkerryError
from workload_plane.models.port import RemoteFile
from workload_plane.models.selection import FILES_MAX, main_file, select_files

URI = "hf://org/name"


def chosen(*paths: str, named: bool = False, allow_pickle: bool = False) -> list[str]:
    files = [RemoteFile(path=path, size_bytes=1) for path in paths]
    found = select_files(URI, files, named=named, allow_pickle=allow_pickle)
    return [file.path for file in found]


def test_safetensors_come_with_configuration_and_tokenizer_and_nothing_else() -> None:
    assert chosen(
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "chat_template.jinja",
        "README.md",
        "modeling_x.py",
        "pytorch_model.bin",
        "original/consolidated.00.pth",
        "original/params.json",
        "consolidated.safetensors",
        "model-q4.gguf",
    ) == [
        "chat_template.jinja",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
    ]


def test_weights_in_a_format_of_their_own_are_taken_when_there_are_no_others() -> None:
    assert chosen("consolidated.safetensors", "params.json") == [
        "consolidated.safetensors",
        "params.json",
    ]


def test_one_gguf_or_all_its_shards_are_taken_and_of_several_one_must_be_named() -> None:
    assert chosen("q4.gguf", "README.md", "config.json") == ["q4.gguf"]
    shards = ["q8-00001-of-00002.gguf", "q8-00002-of-00002.gguf"]
    assert chosen(*shards) == shards
    with pytest.raises(InvalidInput, match=r"name one: hf://org/name/NAME .*q4\.gguf, q8\.gguf"):
        chosen("q4.gguf", "q8.gguf")
    assert chosen("q4.gguf", named=True) == ["q4.gguf"]


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt", "pkl"])
def test_pickles_are_refused_by_name_unless_the_operator_says_otherwise(suffix: str) -> None:
    name = f"pytorch_model.{suffix}"
    for named in (False, True):
        with pytest.raises(Denied, match=rf"{name} .*safetensors, or set model_cache.allow_pickle"):
            chosen(name, named=named)
        assert name in chosen(name, named=named, allow_pickle=True)


@pytest.mark.parametrize(
    ("paths", "kind"),
    [
        ((), NotFound),
        (("README.md",), NotFound),
        (("../x.safetensors",), InvalidInput),
        (("/etc/x.safetensors",), InvalidInput),
        (("a//b.safetensors",), InvalidInput),
        (("a/./b.safetensors",), InvalidInput),
        (("a\\b.safetensors",), InvalidInput),
        (("a\nb.safetensors",), InvalidInput),
        (("/".join("abcdefghij") + ".safetensors",), InvalidInput),
        (("x" * 300 + ".safetensors",), InvalidInput),
        (tuple(f"{i}.safetensors" for i in range(FILES_MAX + 1)), Infeasible),
    ],
)
def test_what_is_no_base_model_is_refused(paths: tuple[str, ...], kind: type[SkerryError]) -> None:
    with pytest.raises(kind):
        chosen(*paths)


def test_a_named_file_must_be_weights() -> None:
    with pytest.raises(InvalidInput):
        chosen("README.md", named=True)


def test_an_engine_is_given_a_gguf_itself_and_of_others_the_directory() -> None:
    assert main_file(["q-00002-of-00002.gguf", "q-00001-of-00002.gguf"]) == "q-00001-of-00002.gguf"
    assert main_file(["config.json", "model.safetensors"]) == ""


@pytest.mark.parametrize(
    "paths",
    [("a.safetensors", "a.safetensors"), ("a.json", "a.json/b.json", "x/c.safetensors")],
)
def test_no_two_files_may_lie_at_one_place(paths: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"twice|folder"):
        chosen(*paths)


@pytest.mark.parametrize("sha256", ["../x", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_digest_is_64_hex_digits_or_none(sha256: str) -> None:
    with pytest.raises(Corrupt, match="no SHA-256"):
        RemoteFile(path="a.gguf", size_bytes=1, sha256=sha256)
