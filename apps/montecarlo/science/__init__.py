"""The science of the forecasts: arrays in, arrays out; no files, no processes."""
