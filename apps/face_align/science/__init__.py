"""From pixels to aligned faces: arrays in, arrays out."""
