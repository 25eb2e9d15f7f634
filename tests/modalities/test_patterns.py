"""Missing patterns: grouped once, and called by one name."""

import numpy as np
import pytest

from skfusion.modalities.patterns import by_pattern, find_patterns, name_pattern

PRESENT = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=bool)


def test_every_row_is_in_the_group_of_its_pattern():
    groups = by_pattern(PRESENT)
    assert [pattern for pattern, _ in groups] == [(False, False, False), (True, False, True), (True, True, False)]
    assert [rows.tolist() for _, rows in groups] == [[1, 4], [0, 2, 5], [3]]
    patterns, which = find_patterns(PRESENT)
    np.testing.assert_array_equal(patterns[which], PRESENT)


@pytest.mark.parametrize("n_modalities", [1, 8, 62, 63, 70])
def test_patterns_are_sorted_however_many_modalities_there_are(n_modalities):
    distinct = np.random.default_rng(0).random((20, n_modalities)) < 0.5
    present = distinct[np.random.default_rng(1).integers(20, size=200)]
    patterns, which = find_patterns(present)
    assert [tuple(row) for row in patterns.tolist()] == sorted({tuple(row) for row in present.tolist()})
    np.testing.assert_array_equal(patterns[which], present)


@pytest.mark.parametrize("present", [PRESENT[:0], PRESENT[1:2], PRESENT[3:4, :1]])
def test_none_or_one_pattern(present):
    assert [len(rows) for _, rows in by_pattern(present)] == [1] * len(present)


def test_a_pattern_is_called_by_what_is_there():
    names = ["labs", "ecg", "notes"]
    assert name_pattern((True, False, True), names) == "labs + notes"
    assert name_pattern(np.array([False, True, False]), names) == "ecg"
    assert name_pattern(PRESENT[1], np.array(names, dtype=object)) == "nothing"
