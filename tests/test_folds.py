"""Folds of the rows that are learnt from, the same for all who make them."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from skfusion._folds import training_folds
from skfusion._targets import TrainingSet
from skfusion.modalities import Modalities

TARGET = np.arange(12) % 3
KEPT = np.r_[1:7, 8:14]
"""Of 15 rows that came, the first, the seventh and the last were dropped."""


def folds(cv, target=TARGET, groups=None, present=None, **options):
    y = np.zeros(15, dtype=int)
    y[KEPT] = target
    of_all = None
    if groups is not None:
        of_all = np.full(15, groups[0])
        of_all[KEPT] = groups
    present = np.ones((12, 2), dtype=bool) if present is None else present
    tables = {name: np.where(there[:, None], np.ones((12, 1)), np.nan) for name, there in zip("ab", present.T)}
    data = TrainingSet(Modalities(tables), target, None, groups, KEPT)
    return training_folds(cv, data, target, 15, y, of_all, **options)


@pytest.mark.parametrize(("classify", "splitter"), [(True, StratifiedKFold(3)), (False, KFold(3))])
def test_an_integer_is_stratified_for_classes_alone(classify, splitter):
    expected = list(splitter.split(TARGET, TARGET))
    for found, due in zip(folds(3, classify=classify), expected, strict=True):
        assert [rows.tolist() for rows in found] == [rows.tolist() for rows in due]


@pytest.mark.parametrize("classify", [True, False])
def test_each_fold_has_as_many_of_each_pattern(classify):
    """Data sets stacked one below the other, where those of the second alone have modality b."""
    present = np.array([[True, False]] * 8 + [[False, True]] * 4)
    found = folds(2, target=TARGET * 0, present=present, classify=classify)
    # Successive rows stay together, since they may be of one patient.
    assert [test.tolist() for _, test in found] == [[0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 10, 11]]
    for train, test in found:
        assert sorted([*train, *test]) == list(range(12))


def test_classes_are_as_even_where_something_is_missing():
    rng = np.random.default_rng(0)
    present = rng.random((12, 2)) < 0.5
    present[~present.any(axis=1)] = True
    found = folds(4, present=present, classify=True)
    assert [np.bincount(TARGET[test]).tolist() for _, test in found] == [[1, 1, 1]] * 4


@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("cv", [None, 4, GroupKFold(4)])
def test_groups_stay_whole(cv, classify):
    groups = np.repeat(np.arange(4), 3)
    found = folds(cv, groups=groups, classify=classify)
    assert len(found) == 4
    for train, test in found:
        assert not set(groups[train]) & set(groups[test])


def test_an_integer_is_lowered_by_classes_samples_and_groups():
    assert len(folds(10, classify=True)) == 4
    assert len(folds(20, classify=False)) == 12
    assert len(folds(10, groups=np.arange(12) % 2, classify=False)) == 2


@pytest.mark.parametrize(
    ("target", "groups", "classify", "due"),
    [
        (np.arange(12), None, True, "a class needs 2 samples"),
        (TARGET, np.zeros(12), True, "a class needs 2 samples, in 2 groups"),
        (TARGET, np.zeros(12), False, "due are 2 samples, in 2 groups"),
    ],
)
def test_too_few_samples_speak_of_groups_where_there_are_any(target, groups, classify, due):
    with pytest.raises(ValueError, match=rf"^n_samples=12 is too few for folds: {due}\.$"):
        folds(5, target=target, groups=groups, classify=classify)


@pytest.mark.parametrize("classify", [True, False])
def test_given_folds_speak_of_the_rows_that_came(classify):
    ((train, test),) = folds([(np.arange(10), np.arange(10, 15))], classify=classify)
    assert KEPT[train].tolist() == [1, 2, 3, 4, 5, 6, 8, 9]
    assert KEPT[test].tolist() == [10, 11, 12, 13]
