"""``python -m apps.montecarlo``: the commands."""

from __future__ import annotations

import sys

from apps._frame import App, Command
from apps.montecarlo import backtest_params, option_params, validate_params
from apps.montecarlo.params import Params

RUNS = "montecarlo-runs"

FORECAST = """\
Forecast a price by Monte Carlo simulation: percentile fan, value at risk, expected shortfall,
touch probabilities and drawdowns, each with its standard error. Without flags it forecasts the
S&P 500 from the daily prices of 1999-2018 that come with it.
"""
EXAMPLES = """\
examples:
  python -m apps.montecarlo --forecasts 100000
  python -m apps.montecarlo --prices my.csv:Close --model gjr-garch --days 250 --touch=+25%,-10%
  python -m apps.montecarlo --symbol sp500,wti --weights 0.7,0.3 --confidence 0.975
  python -m apps.montecarlo --forecasts 1e8 --dry-run
"""

APP = App(
    "apps.montecarlo",
    [
        Command(
            "forecast", Params, "apps.montecarlo.stages:forecast", "apps.montecarlo.planning:plan_forecast",
            FORECAST, EXAMPLES, RUNS,
        ),
        Command(
            "option", option_params.OptionParams, "apps.montecarlo.option:option", "apps.montecarlo.option:plan",
            option_params.ABOUT, output=RUNS,
        ),
        Command(
            "backtest", backtest_params.BacktestParams, "apps.montecarlo.backtest:backtest",
            "apps.montecarlo.backtest:plan", backtest_params.ABOUT, output=RUNS,
        ),
        Command(
            "validate", validate_params.ValidateParams, "apps.montecarlo.validate:validate",
            "apps.montecarlo.validate:plan", validate_params.ABOUT, output=RUNS,
        ),
    ],
)  # fmt: skip

main = APP.main

if __name__ == "__main__":
    sys.exit(main())
