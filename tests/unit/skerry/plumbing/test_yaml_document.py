"""Operators' files mean what they say, and a fault is named with its line and column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.yaml_document import (
    BYTES_MAX,
    DEPTH_MAX,
    NODES_MAX,
    Value,
    dotted,
    dump,
    parse,
)

FILE = b"""\
# a comment
kind: Deployment
regions: [NO, eu-1]
scaling:
  min_replicas: 1
  windows:
    - name: day
      from: 12:30:00
"""


def value_of(text: str) -> Value:
    (document,) = parse(text.encode(), "f.yaml")
    return document.value


def fault_of(text: str | bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(text.encode() if isinstance(text, str) else text, "f.yaml")
    return str(caught.value)


def test_file_is_plain_values() -> None:
    (document,) = parse(FILE, "f.yaml")
    assert document.value == {
        "kind": "Deployment",
        "regions": ["NO", "eu-1"],
        "scaling": {"min_replicas": 1, "windows": [{"name": "day", "from": "12:30:00"}]},
    }


def test_every_value_keeps_its_place() -> None:
    (document,) = parse(FILE, "f.yaml")
    assert document.position(("regions", 1)) == (3, 15)
    assert document.position(("scaling", "windows", 0, "from")) == (8, 13)
    assert document.key_position(("scaling", "windows", 0, "from")) == (8, 7)
    assert document.position(()) == (2, 1)


def test_missing_field_is_placed_at_what_should_hold_it() -> None:
    (document,) = parse(FILE, "f.yaml")
    assert document.position(("scaling", "max_replicas", "x")) == (5, 3)


def test_fault_names_file_line_column_and_field() -> None:
    (document,) = parse(FILE, "f.yaml")
    error = document.fault(("scaling", "windows", 0, "from"), "is not a time")
    assert str(error) == "f.yaml:8:7: scaling.windows[0].from: is not a time"
    assert error.field == "scaling.windows[0].from"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("FALSE", False),
        ("12:30:00", "12:30:00"),
        ("2030-01-01", "2030-01-01"),
        ("1_000", "1_000"),
        ("017", 17),
        ("0o17", 15),
        ("0xff", 255),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("~", None),
        ("null", None),
        ("''", ""),
        ('"12"', "12"),
        ("|-\n  12", "12"),
        ("9223372036854775807", 2**63 - 1),
        ("'.inf'", ".inf"),
        ("=", "="),
    ],
)
def test_scalars_are_yaml_1_2(text: str, value: Value) -> None:
    found = value_of(f"a: {text}\n")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: &x 1\n", "1:4: anchors"),
        ("a: &x [1]\nb: *x\n", "1:4: anchors"),
        ("b: *x\n", "1:4: anchors"),
        ("a: !!python/object:os.system 1\n", "1:4: tags"),
        ("a: !!str 1\n", "1:4: tags"),
        ("a: ! 1\n", "1:4: tags"),
        ("a: 1\nb: 2\na: 3\n", "3:1: key 'a' was given in line 1"),
        ("a: {b: 1, b: 2}\n", "1:11: key 'b'"),
        ("1: a\n", "1:1: a key must be text"),
        ("true: a\n", "1:1: a key must be text"),
        ("[a]: b\n", "1:1: a key must be text"),
        ("<<: {a: 1}\n", "1:1: a key must be text"),
        ("a: .nan\n", "1:4: .nan is not a finite"),
        ("a: -.INF\n", "1:4: -.INF is not a finite"),
        ("a: 1e999\n", "1:4: 1e999 is not a finite"),
        ("a: 9223372036854775808\n", "1:4: the number does not fit"),
        (f"a: {'9' * 5000}\n", "1:4: the number does not fit"),
        ("a: 1\n\tb: 2\n", "2:1: "),
        ("a: [1, 2\n", "2:1: "),
        ("a: 'x\n", "2:1: "),
        ("", "1:1: holds no document"),
        ("# only\n---\n# comments\n", "1:1: holds no document"),
        ("a: \x00\n", "1:1: "),
    ],
)
def test_what_is_refused_is_placed(text: str, fault: str) -> None:
    assert fault_of(text).startswith(f"f.yaml:{fault}")


def test_bytes_that_are_not_utf8_are_placed() -> None:
    assert fault_of(b"a: 1\nb: \xff\n").startswith("f.yaml:2:4: not UTF-8")
    assert "UTF-8" in fault_of("a: 1".encode("utf-16"))


def test_byte_order_mark_is_skipped() -> None:
    (document,) = parse(b"\xef\xbb\xbfa: 1\n", "f.yaml")
    assert document.value == {"a": 1}
    assert document.key_position(("a",)) == (1, 1)


def test_documents_come_in_order_and_blank_ones_are_left_out() -> None:
    documents = parse(b"a: 1\n---\n---\n- 2\n---\n", "f.yaml")
    assert [document.value for document in documents] == [{"a": 1}, [2]]
    assert documents[1].position((0,)) == (4, 3)


def test_one_bad_document_refuses_the_file() -> None:
    assert fault_of("a: 1\n---\nb: [\n").startswith("f.yaml:4:1:")


def test_limits_hold() -> None:
    deepest = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert value_of(deepest)
    assert "deeper than 32" in fault_of(f"[{deepest}]")
    assert "deeper than 32" in fault_of("[" * 100_000)
    assert "deeper than 32" in fault_of("{a: " * 100_000)
    assert "more than 20000 values" in fault_of("- 1\n" * NODES_MAX)
    assert "more than 20000 values" in fault_of("--- 1\n" * (NODES_MAX + 1))
    assert "at most 1048576" in fault_of(b"#" * (BYTES_MAX + 1))
    assert value_of("- 1\n" * (NODES_MAX - 1))


def test_paths_are_written_as_people_do() -> None:
    assert dotted(("a", 0, "b")) == "a[0].b"
    assert dotted(()) == ""


ODD = ("1e5", "12e4567", "0o17", "0x1f", "1_000", ".inf", "no", "null", "~", "", "12:30", "-", "=")
TEXTS = st.one_of(
    st.sampled_from(ODD),
    st.from_regex(r"[-+.0-9eEox_:]{1,12}", fullmatch=True),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))),
)
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.none(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(TEXTS.filter(lambda key: key != "<<"), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.just("a"), VALUES, min_size=1), min_size=1, max_size=3))
def test_what_is_dumped_is_parsed_as_it_was(documents: list[Value]) -> None:
    text = dump(documents)
    assert [document.value for document in parse(text.encode(), "f.yaml")] == documents


def test_a_value_that_stands_twice_is_written_twice() -> None:
    shared: list[Value] = [1]
    assert dump([{"a": shared, "b": shared}]) == "a:\n- 1\nb:\n- 1\n"
