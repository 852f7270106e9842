"""The other faces of an executor: the standard ones, and itself with other options."""
