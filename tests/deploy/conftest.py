"""The fleet that a test starts, stopped at its end."""

import pytest

from support.fleet import Fleet


@pytest.fixture
def fleet(build, demo):
    started = []

    def start(*options, **keywords):
        started.append(Fleet(build, demo.path, *options, **keywords))
        return started[-1]

    yield start
    for each in started:
        each.close()
