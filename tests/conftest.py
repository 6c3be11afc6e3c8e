"""What every test needs: no event loop left over that nobody closes."""

import asyncio

# Otherwise pytest-asyncio's first look makes a loop that is never closed (ResourceWarning).
asyncio.set_event_loop(None)
