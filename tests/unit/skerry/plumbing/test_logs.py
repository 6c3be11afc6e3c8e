"""One event, one line, whatever strangers put into its fields."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from skerry.plumbing import logs

log = logs.get_logger("plumbing.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A configured JSON log, removed again."""
    target = io.StringIO()
    handler = logs.configure("json", "info", target)
    yield target
    logging.getLogger().removeHandler(handler)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_and_fields_are_one_json_line(stream: io.StringIO) -> None:
    log.info("plan.applied", actions=3, ratio=0.1234567891, dry=False, name=None)
    (line,) = lines(stream)
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "plumbing.test",
        "event": "plan.applied",
        "actions": 3,
        "ratio": 0.123457,
        "dry": False,
        "name": None,
    }


@pytest.mark.parametrize("form", ["json", "text"])
def test_field_cannot_start_a_second_line_or_colour_it(form: logs.Format) -> None:
    target = io.StringIO()
    handler = logs.configure(form, "info", target)
    log.info("x", name='a\n{"level":"error"}\r\x1b[31m\x9b31m\u2028\u202eb\x00')
    logging.getLogger().removeHandler(handler)
    text = target.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert not set("\r\x1b\x9b\u2028\u202e\x00") & set(text)


def test_text_lines_quote_what_needs_it() -> None:
    target = io.StringIO()
    handler = logs.configure("text", "info", target)
    log.info("x", plain="a-b/c.d", spaced="a b", equals="a=b", empty="", number=2)
    logging.getLogger().removeHandler(handler)
    assert (
        target.getvalue()
        .rstrip()
        .endswith('event=x plain=a-b/c.d spaced="a b" equals="a=b" empty="" number=2')
    )


def test_long_field_is_cut_and_says_so(stream: io.StringIO) -> None:
    log.info("x", prompt="a" * 10_000)
    (line,) = lines(stream)
    assert line["prompt"] == "a" * logs.FIELD_CHARS_MAX + "...(+8000)"


async def test_context_is_in_every_line_of_the_block_and_of_its_tasks(
    stream: io.StringIO,
) -> None:
    async def inner() -> None:
        log.info("inner")

    with logs.bind(plane="a"), logs.bind(generation=7):
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
    log.info("after")
    first, second = lines(stream)
    assert (first["plane"], first["generation"]) == ("a", 7)
    assert "plane" not in second


def test_field_cannot_replace_the_line_s_own_keys(stream: io.StringIO) -> None:
    log.info("x", level="fake", logger="fake")
    (line,) = lines(stream)
    assert line["level"] == "info"
    assert line["level_"] == "fake"


def test_exception_carries_its_traceback(stream: io.StringIO) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("loop.failed", loop="x")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "RuntimeError: broken" in str(line["traceback"])


def test_level_filters(stream: io.StringIO) -> None:
    log.debug("quiet")
    log.warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_other_libraries_logs_come_out_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("somebody.else").warning("it is %s", "late")
    (line,) = lines(stream)
    assert line["event"] == "it is late"


def test_field_whose_text_fails_is_named_not_fatal(stream: io.StringIO) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    log.info("x", value=Broken())
    assert lines(stream)[0]["value"] == "<unprintable Broken>"


def test_closed_stream_does_not_stop_the_process(stream: io.StringIO) -> None:
    stream.close()
    log.info("x")
