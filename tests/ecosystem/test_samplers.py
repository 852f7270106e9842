"""Samplers that take a pool or an executor."""

import numpy as np
import pytest

MISSING = "pip install '.[compat]'"


def log_normal(x):
    return -0.5 * float(np.sum(np.square(x)))


def to_cube(u):
    return 10.0 * u - 5.0


def test_emcee_walks_the_same_chain_on_a_pool(pool):
    emcee = pytest.importorskip("emcee", reason=MISSING)

    start = np.random.default_rng(1).normal(size=(8, 2))

    def chain(**parallel):
        sampler = emcee.EnsembleSampler(8, 2, log_normal, **parallel)
        sampler.random_state = np.random.RandomState(3).get_state()  # noqa: NPY002
        sampler.run_mcmc(start, 20)
        return sampler.get_chain()

    assert (chain(pool=pool) == chain()).all()


def test_dynesty_integrates_the_same_evidence_on_a_pool(pool):
    dynesty = pytest.importorskip("dynesty", reason=MISSING)

    def evidence(**parallel):
        rng = np.random.default_rng(5)
        sampler = dynesty.NestedSampler(log_normal, to_cube, 2, nlive=40, rstate=rng, **parallel)
        sampler.run_nested(maxiter=120, print_progress=False)
        return sampler.results.logz[-1]

    assert evidence(pool=pool, queue_size=2) == evidence(pool=InOrder(), queue_size=2)


class InOrder:
    size = 2

    def map(self, fn, items):
        return list(map(fn, items))


def test_pyabc_accepts_particles_that_an_executor_simulated(pool, tmp_path):
    pyabc = pytest.importorskip("pyabc", reason=MISSING)

    sampler = pyabc.sampler.ConcurrentFutureSampler(pool, client_max_jobs=4)
    prior = pyabc.Distribution(mean=pyabc.RV("uniform", -5, 10))
    abc = pyabc.ABCSMC(simulate, prior, distance, population_size=20, sampler=sampler)
    abc.new(f"sqlite:///{tmp_path}/abc.db", {"y": 1.0})

    history = abc.run(max_nr_populations=2)
    particles, weights = history.get_distribution()

    assert len(particles) == 20
    assert abs(float(np.average(particles["mean"], weights=weights)) - 1.0) < 2.0


def simulate(parameters):
    return {"y": parameters["mean"] + 0.1 * np.random.default_rng().normal()}


def distance(one, other):
    return abs(one["y"] - other["y"])
