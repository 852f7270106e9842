"""Monte Carlo forecasts of stock prices: models, calibration, risk figures, option prices and backtests."""
