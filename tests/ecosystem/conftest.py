"""Software of others on an executor's pool; where it is not installed its tests skip, and say what adds it."""

import pytest

from core import FunctionExecutor


@pytest.fixture(scope="session")
def executor():
    with FunctionExecutor("process", workers=2) as started:
        yield started


@pytest.fixture
def pool(executor):
    with executor.pool() as opened:
        yield opened
