"""What every test needs: no event loop left over that nobody closes, and no surprise downloads."""

import asyncio

import pytest

# Otherwise pytest-asyncio's first look makes a loop that is never closed (ResourceWarning).
asyncio.set_event_loop(None)

# Run only when asked for by name (`-m foreign`): they fetch packages of others, or take long.
ON_REQUEST = ("engines", "foreign", "ray_faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is run on request, unless it is asked for."""
    asked = str(config.getoption("markexpr"))
    left_out = [
        item
        for item in items
        if any(item.get_closest_marker(name) and name not in asked for name in ON_REQUEST)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
