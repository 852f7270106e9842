"""What is computed of pixels and shapes: arrays in, arrays out; no storage, no network."""
