"""Optuna: trials are asked here, and evaluated on a pool."""

import pytest

pytest.importorskip("optuna", reason="pip install '.[compat]'")

import optuna


def loss(x):
    return (x - 2.0) ** 2


def test_trials_of_a_study_run_on_a_pool(pool):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))

    for _ in range(10):
        trials = [study.ask() for _ in range(4)]
        asked = [trial.suggest_float("x", -10, 10) for trial in trials]
        for trial, value in zip(trials, pool.map(loss, asked), strict=True):
            study.tell(trial, value)

    assert len(study.trials) == 40
    assert study.best_value == loss(study.best_params["x"])
