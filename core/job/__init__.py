"""A job from its creation to its last result, seen from the driver."""
