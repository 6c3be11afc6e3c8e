"""Traces of others as they publish them, and what is said of one that is wrong."""

import gzip
import sys
from pathlib import Path

import pytest

from skerry.client.load_trace import TracedRequest, read_trace
from skerry.plumbing.errors import InvalidInput, NotFound

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
"""
MOONCAKE = """{"timestamp": 3000, "input_length": 600, "output_length": 7, "hash_ids": [4, 9]}

{"timestamp": 0, "input_length": 100, "output_length": 1, "hash_ids": [4]}
"""
OURS = "arrival_s,input_tokens,output_tokens\n0.5,10,2\n"


def a_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_azures_trace_is_read_with_its_dates(tmp_path: Path) -> None:
    first, second = read_trace(a_file(tmp_path, "t.csv", AZURE))
    assert (first.input_tokens, first.output_tokens) == (374, 44)
    assert second.at_seconds - first.at_seconds == pytest.approx(4.314579, abs=1e-5)


def test_burstgpts_trace_is_read_in_seconds(tmp_path: Path) -> None:
    rows = read_trace(a_file(tmp_path, "t.csv", BURST))
    assert rows[1] == TracedRequest(at_seconds=45.0, input_tokens=1087, output_tokens=230)


def test_mooncakes_trace_is_read_in_milliseconds_with_its_blocks_and_sorted(
    tmp_path: Path,
) -> None:
    rows = read_trace(a_file(tmp_path, "t.jsonl", MOONCAKE))
    assert rows == (
        TracedRequest(at_seconds=0.0, input_tokens=100, output_tokens=1, blocks=(4,)),
        TracedRequest(at_seconds=3.0, input_tokens=600, output_tokens=7, blocks=(4, 9)),
    )


def test_a_packed_trace_is_read_too_and_only_as_far_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(OURS.encode()))
    assert len(read_trace(path)) == 1
    assert len(read_trace(a_file(tmp_path, "t.csv", AZURE), rows_max=1)) == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "a,b\n1,2\n", "row 1: .*no time"),
        ("t.csv", "arrival_s,input_tokens\n1,2\n", "row 1: .*no tokens"),
        ("t.csv", OURS + "1,-5,2\n", "row 2: -5 tokens"),
        ("t.csv", OURS + "nan,5,2\n", "row 2: the time nan"),
        ("t.csv", OURS + "1,many,2\n", "row 2: could not convert"),
        ("t.csv", OURS + "1,inf,2\n", "row 2: "),
        ("t.jsonl", "{", "can't be read"),
        ("t.jsonl", "[" * 100_000, "can't be read"),
        ("t.jsonl", "[1]", "is not an object"),
        ("t.csv", "arrival_s\n", "has no rows"),
        ("t.txt", "x", "a trace is .csv"),
        ("t.csv.gz", "not packed", "can't be read"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said_with_its_row(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_trace(a_file(tmp_path, name, text))


def test_a_trace_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no trace"):
        read_trace(tmp_path / "t.csv")


def test_parquet_without_its_reader_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidInput, match="install it"):
        read_trace(a_file(tmp_path, "t.parquet", "PAR1"))
