"""The page on asking base models is run as it stands, against two gateways of which one is dead."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web

from skerry.plumbing.ports import free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/operating/inference-client.md"
HOST = "127.0.0.1"
SECONDS_MAX = 60
_EVENTS = (
    b'data: {"choices": [{"delta": {"content": "Rivers "}}]}\n\n'
    b'data: {"choices": [{"delta": {"content": "carry it."}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


async def answer(request: web.Request) -> web.StreamResponse:
    """Stream two pieces."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(_EVENTS)
    return response


async def test_every_block_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    addresses = {"127.0.0.1:7201": f"{HOST}:{free_port(HOST)}", "127.0.0.1:7211": ""}
    addresses["127.0.0.1:7211"] = f"{HOST}:{runner.addresses[0][1]}"
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for named, real in addresses.items():
        assert named in program
        program = program.replace(named, real)
    file = tmp_path / "page.py"
    file.write_text(program)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(file)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(SECONDS_MAX):
            output = (await process.communicate())[0].decode()
    finally:
        await runner.cleanup()
    assert process.returncode == 0, output
    assert output.startswith("Rivers carry it.\n us 1 2 End(finish_reason='stop'")
    assert output.count("ok us") == 2
