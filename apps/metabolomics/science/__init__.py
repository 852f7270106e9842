"""The science: arrays in, arrays out, without input, output or core."""
