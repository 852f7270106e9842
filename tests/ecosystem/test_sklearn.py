"""scikit-learn's searches, validations and forests through the joblib backend."""

import pytest

pytest.importorskip("joblib", reason="pip install '.[compat]'")
pytest.importorskip("sklearn", reason="pip install '.[compat]'")

import joblib
import numpy as np
import pandas
import scipy.sparse
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

import core.joblib  # noqa: F401


@pytest.fixture(scope="module")
def labelled():
    return make_classification(n_samples=3000, n_features=60, random_state=4)  # 1.4 MB: shared, not sent


@pytest.fixture
def on_executor(executor):
    with joblib.parallel_config("fanfold", executor=executor):
        yield


def kinds(values):
    return {"array": values, "frame": pandas.DataFrame(values), "sparse": scipy.sparse.csr_array(values)}


@pytest.mark.parametrize("kind", ["array", "frame", "sparse"])
def test_a_grid_search_finds_what_it_finds_without(labelled, on_executor, kind):
    values, labels = labelled
    values = kinds(values)[kind]
    grid = {"C": [0.01, 1.0], "fit_intercept": [True, False]}

    there = GridSearchCV(LogisticRegression(max_iter=50), grid, cv=3).fit(values, labels)
    here = GridSearchCV(LogisticRegression(max_iter=50), grid, cv=3, n_jobs=1).fit(values, labels)

    assert there.cv_results_["mean_test_score"].tolist() == here.cv_results_["mean_test_score"].tolist()
    assert there.best_params_ == here.best_params_


def test_cross_validation_gives_the_same_scores(labelled, on_executor):
    model = LogisticRegression(max_iter=50)

    assert (
        cross_val_score(model, *labelled, cv=4).tolist() == cross_val_score(model, *labelled, cv=4, n_jobs=1).tolist()
    )


def test_a_forest_grows_the_same_trees_in_a_search_and_alone(labelled, on_executor):
    values, labels = labelled
    forest = RandomForestClassifier(8, max_depth=4, random_state=2)

    there = forest.fit(values, labels).predict_proba(values)
    here = forest.set_params(n_jobs=1).fit(values, labels).predict_proba(values)
    scores = cross_val_score(forest.set_params(n_jobs=2), values, labels, cv=2)

    assert np.array_equal(there, here)
    assert len(scores) == 2
