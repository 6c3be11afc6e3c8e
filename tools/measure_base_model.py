"""Measures a GGUF file under llama.cpp as a replica runs it: start, memory, speed, and answers.

Run by hand (`examples/models/README.md` shows its figures); needs the project's own environment:

    .venv/bin/python -m tools.measure_base_model examples/models/skerry-tiny.gguf
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import aiohttp
import psutil

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port
from tools.base_model.corpus import Sources, make_turn, read_sources

CLOCK = SystemClock()
HOST = "127.0.0.1"
# Not a seed of the training, so the questions are new draws of the same templates.
QUESTION_SEED = 17
QUESTIONS = 600
# How the one right answer to such a question begins.
EXACT_ANSWERS = {
    "sums": r"\d+ (plus|minus)",
    "counting": r"\d+, ",
    "facts": r"The capital|The opposite|After ",
}
# The longest answers of the training text have about 330 tokens.
ANSWER_TOKENS_MAX = 500
STREAMS = 4
STREAM_ROUNDS = 10
STREAM_TOKENS = 200
LISTEN_SECONDS_MAX = 20.0
POLL_SECONDS = 0.002

SERVE = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.n_parallel, params.warmup, params.endpoint_metrics = 4, False, True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What one streamed answer took: seconds to its first token, to its end, and its tokens."""

    first_token_seconds: float
    seconds: float
    tokens: int


def measure(model: Path) -> dict[str, Any]:
    """Return the figures of `model`, served by a child process that is ended afterwards."""
    port = free_port(HOST)
    started = CLOCK.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(model), str(port)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        figures = asyncio.run(_ask_all(port, psutil.Process(child.pid), started))
        stopped = CLOCK.monotonic()
        child.send_signal(signal.SIGTERM)
        child.wait(LISTEN_SECONDS_MAX)
        figures["sigterm_seconds"] = CLOCK.monotonic() - stopped
    finally:
        child.kill()
        child.wait()
    rounded = {key: round(value, 4) for key, value in figures.items()}
    return {"file_bytes": model.stat().st_size, **rounded}


async def _ask_all(port: int, process: psutil.Process, started: float) -> dict[str, float]:
    # llama.cpp announces keep-alive but closes the connection after every streamed answer.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(f"http://{HOST}:{port}", connector=connector) as session:
        await _listening(session)
        figures = {"listens_seconds": CLOCK.monotonic() - started}
        figures["rss_mib_at_start"] = process.memory_info().rss / 2**20
        figures |= await _speed(session)
        figures |= await _answers(session, read_sources())
        figures["rss_mib_at_end"] = process.memory_info().rss / 2**20
    return figures


async def _listening(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(LISTEN_SECONDS_MAX):
        while True:
            try:
                async with session.get("/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await CLOCK.sleep(POLL_SECONDS)


async def _speed(session: aiohttp.ClientSession) -> dict[str, float]:
    # The very first request also warms the engine's own memory: it is not counted.
    await _stream(session, 0)
    singles = [await _stream(session, number) for number in range(1, STREAM_ROUNDS + 1)]
    began = CLOCK.monotonic()
    together: list[Stream] = []
    for number in range(1, STREAM_ROUNDS + 1):
        together += await asyncio.gather(
            *(_stream(session, number * 100 + lane) for lane in range(STREAMS))
        )
    seconds = CLOCK.monotonic() - began
    return {
        "ttft_ms_median": 1000 * median(stream.first_token_seconds for stream in singles),
        "tokens_per_second_one_stream": median(s.tokens / s.seconds for s in singles),
        "ttft_ms_median_four_streams": 1000 * median(s.first_token_seconds for s in together),
        "tokens_per_second_four_streams": sum(stream.tokens for stream in together) / seconds,
    }


async def _stream(session: aiohttp.ClientSession, number: int) -> Stream:
    ask = f"Request {number}. Tell me a long story."
    body = {
        "messages": [{"role": "user", "content": ask}],
        "max_tokens": STREAM_TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    began = CLOCK.monotonic()
    first, tokens = 0.0, 0
    async with session.post("/v1/chat/completions", json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: {") and b'"content":"' in line:
                first = first or CLOCK.monotonic() - began
                tokens += 1
    return Stream(first_token_seconds=first, seconds=CLOCK.monotonic() - began, tokens=tokens)


async def _answers(session: aiohttp.ClientSession, sources: Sources) -> dict[str, float]:
    """Return how answers end, how long they are, and how right they are, at temperature 0.

    The exact shares are over questions that have one right answer only. `share_counting_in_order`
    also takes an answer that counts rightly but stops at another number than the one asked for.
    `share_known_words` is the share of answered words that occur in the training text at all.
    """
    rng = random.Random(QUESTION_SEED)
    turns = [make_turn(sources.phrases, rng) for _ in range(QUESTIONS)]
    known = _words(" ".join(sources.paragraphs))
    known |= _words((Path(__file__).parent / "base_model" / "phrases.toml").read_text("utf-8"))
    ended, lengths, familiar = [], [], []
    exact: dict[str, list[bool]] = {kind: [] for kind in EXACT_ANSWERS}
    in_order = []
    for turn in turns:
        choice, tokens = await _ask(session, turn.ask)
        ended.append(choice["finish_reason"] == "stop")
        lengths.append(tokens)
        answer = choice["message"]["content"] or ""
        words = re.findall(r"[a-z]+", answer.lower())
        familiar += [word in known for word in words]
        for kind, pattern in EXACT_ANSWERS.items():
            if re.match(pattern, turn.answer):
                exact[kind].append(answer == turn.answer)
        if re.match(EXACT_ANSWERS["counting"], turn.answer):
            numbers = [int(number) for number in re.findall(r"\d+", answer)]
            first = int(turn.answer.partition(",")[0])
            in_order.append(numbers == list(range(first, first + len(numbers))))
    long, long_tokens = await _ask(session, "Tell me a long story.")
    return {
        "share_ended": mean(ended),
        **{f"share_exact_{kind}": mean(right) for kind, right in exact.items()},
        "share_counting_in_order": mean(in_order),
        "share_known_words": mean(familiar),
        "answer_tokens_mean": mean(lengths),
        "story_tokens": long_tokens if long["finish_reason"] == "stop" else -1,
    }


async def _ask(session: aiohttp.ClientSession, ask: str) -> tuple[dict[str, Any], int]:
    body = {
        "messages": [{"role": "user", "content": ask}],
        "max_tokens": ANSWER_TOKENS_MAX,
        "temperature": 0,
    }
    async with session.post("/v1/chat/completions", json=body) as response:
        answer = await response.json()
    return answer["choices"][0], answer["usage"]["completion_tokens"]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def main() -> None:
    """Measure the file named on the command line and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="measure a small base model under llama.cpp")
    parser.add_argument("model", type=Path, help="the GGUF file")
    print(json.dumps(measure(parser.parse_args().model), indent=2))


if __name__ == "__main__":
    main()
