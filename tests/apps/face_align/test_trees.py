from __future__ import annotations

from typing import Any

import dlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.face_align import models
from apps.face_align.params import Params
from apps.face_align.science.trees import ModelFormatError, parse


@pytest.fixture(scope="module", params=["inner-eyes", "five-points"])
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Ours and dlib's predictor from the same file."""
    params = Params(landmarks=request.param)
    ours = models.aligner(params, models.model_hash(params)).predict
    return ours, dlib.shape_predictor(str(models.packaged(request.param)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(left=st.integers(-60, 320), top=st.integers(-60, 320), width=st.integers(1, 300), extra=st.integers(-3, 3))
def test_landmarks_in_any_box_are_those_of_dlib(
    both: tuple[Any, Any], head: Any, left: int, top: int, width: int, extra: int
) -> None:
    ours, theirs = both
    box = (left, top, left + width, top + max(1, width + extra))

    expected = [(part.x, part.y) for part in theirs(head, dlib.rectangle(*box)).parts()]

    assert ours(head, box).tolist() == [list(point) for point in expected]


def test_arrays_are_mapped_not_copied() -> None:
    params = Params(landmarks="five-points")
    trees = models.aligner(params, models.model_hash(params)).predict.__self__  # type: ignore[attr-defined]

    assert isinstance(trees.leaves.base, np.memmap)
    assert not trees.leaves.flags.writeable


@pytest.mark.parametrize("cut", [0, 1, 100, 5000, 5_000_000])
def test_a_file_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(ModelFormatError, match="not a dlib shape predictor"):
        parse(models.packaged("five-points").read_bytes()[:cut])


@pytest.mark.parametrize("content", [b"\xff" * 5000, b"GIF89a" * 1000, bytes(9000)])
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFormatError, match="not a dlib shape predictor"):
        parse(content)
