"""The bits of results: a change that moves one of these hashes has changed a number that users may have stored."""

from __future__ import annotations

import numpy as np
import pytest

from apps.montecarlo.science.calibration import TALK_DAYS, TALK_LAST_PRICE, TALK_MODEL
from apps.montecarlo.science.checks import TALK_DIGEST
from apps.montecarlo.science.models import GBM, Bootstrap, GjrGarchFhs, Heston, Merton, Model, StudentT
from apps.montecarlo.science.options import Option, OptionSpec
from apps.montecarlo.science.pricing import price_blocks
from apps.montecarlo.science.simulation import planned, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec

PAST = np.array([-0.031, 0.004, 0.0125, -0.0075, 0.02, 0.001, -0.012, 0.009, 0.0, -0.002])
RESIDUALS = np.array([-2.0, -0.5, 0.25, 0.75, 1.5])
MODELS: dict[str, Model] = {
    "gbm": GBM(1e-4, 0.012),
    "bootstrap": Bootstrap(PAST),
    "block-bootstrap": Bootstrap(PAST, 4.0),
    "student-t": StudentT(1e-4, 0.008, 4.0),
    "merton": Merton(2e-4, 0.009, 0.05, -0.01, 0.02),
    "gjr-garch": GjrGarchFhs(1e-4, 2e-6, 0.02, 0.1, 0.9, 1.5e-4, RESIDUALS),
    "heston": Heston(1e-4, 0.05, 1.4e-4, 0.004, -0.7, 3e-4),
}


def digest(model: Model, **changes: object) -> str:
    settings: dict[str, object] = {"levels": (95.0, 108.0), "engine": "numpy"} | changes
    spec = planned(SimulationSpec(model, 100.0, 60, 1000, 7, (1, 10, 60), **settings))  # type: ignore[arg-type]
    return simulate_blocks(spec, 0, spec.n_blocks).digest()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gbm", "d59fcd8ff9a1227e588d9cc316b88ed69e08b85f137748aef786cfc683c33c85"),
        ("bootstrap", "e5cb09d9ab7d36975a834450375a33c38201923e064c8b94b7c0228562c75e89"),
        ("block-bootstrap", "92f691c059d9d5c104b1de480df7a20c8e498ef9692e6122adf9c2f658f4462e"),
        ("student-t", "e10e8a7f38a217bce04c9ca3cd81454159d079d421fc43edd2e177964d93e2f9"),
        ("merton", "d9fe0084b8f70b64cc82b768971e8c13613b60e99764436e3a72319b0eb59dba"),
        ("gjr-garch", "419164d05d62b0a789b9a9d2828a161ef02151bf18edd6dac78d7950dc6c411a"),
        ("heston", "0255f3f12351edc7473ec5ad83f7c5353694831cdc2bc3d77adf1561c5fa396a"),
    ],
)
def test_each_model_gives_the_bits_it_always_gave(name: str, expected: str) -> None:
    assert digest(MODELS[name]) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"antithetic": True}, "a3457c9a40b5b80cf4d3aeaf3a7e506324c5aded42310b88746f49504a1e4160"),
        (
            {"exact": True, "levels": (), "drawdown": False},
            "3e513f5033f670d0154a3ab9a1f00c563ae498f3cf1a91d9e9286f1d1e8bdf95",
        ),
    ],
    ids=["antithetic", "exact"],
)
def test_each_way_of_drawing_gives_the_bits_it_always_gave(changes: dict[str, object], expected: str) -> None:
    assert digest(MODELS["gbm"], **changes) == expected


def test_the_published_talk_gives_the_bits_it_always_gave() -> None:
    fan = tuple(range(30, TALK_DAYS + 1, 30))
    spec = planned(SimulationSpec(TALK_MODEL, TALK_LAST_PRICE, TALK_DAYS, 2000, 20181231, fan, engine="numpy"))

    assert simulate_blocks(spec, 0, spec.n_blocks).digest() == TALK_DIGEST


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("plain", "3204e4aec051b86994cdafece522f68b8ddaf51ea92bea251bb715c3d45b7bd1"),
        ("antithetic", "8a4e38f47e2eed744286c33e300857b03b77077afa64f556353f2791d7e41f34"),
        ("control", "c3b14e93ade57a2452d7e450b3828d011bb91591287c98e8baeba8012211e087"),
        ("antithetic+control", "1cf9edfdd1f30e56b151371234de9bd60e4bcfc2f4361e1ffacbedbe8dc7cb18"),
    ],
)
def test_each_option_method_gives_the_bits_it_always_gave(method: str, expected: str) -> None:
    option = Option("asian", "call", 105.0, 24)
    spec = OptionSpec(option, GBM(0.0, 0.04), 100.0, 0.002, 1000, 3, method=method)

    assert price_blocks(spec, 0, spec.n_blocks).digest() == expected
