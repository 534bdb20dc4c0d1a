"""A port for what a process tells about itself."""

import pytest

from tests.support.scraping import free_port


@pytest.fixture
def port() -> int:
    """A port that nobody listens on now."""
    return free_port()
