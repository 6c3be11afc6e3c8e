"""Runs in the venv that has SGLang: puts command lines through its own argument parser.

Reads a JSON list of {argv, files} (`python -m sglang.launch_server ...`) and prints, for each, what
was wrong with it or null. A file of draft lengths is read by SGLang's own reader where it has one.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile

from tests.engines.hollow import install

install("torchvision")

from sglang.srt.server_args import ServerArgs  # noqa: E402


def _check_draft_lengths(text: str) -> None:
    from sglang.srt.speculative.adaptive_spec_params import resolve_candidate_steps_from_config

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        resolve_candidate_steps_from_config(file.name)


def fault_of(argv: list[str], files: dict[str, list[str]]) -> str | None:
    """Return what SGLang's parser says against a command line; None when it takes it."""
    assert argv[1:3] == ["-m", "sglang.launch_server"]
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser.parse_args(argv[3:])
        for lines in files.values():
            _check_draft_lengths("\n".join(lines))
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    faults = [fault_of(one["argv"], one["files"]) for one in json.load(sys.stdin)]
    print(json.dumps(faults))
