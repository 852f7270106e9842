"""Replica-exchange molecular dynamics without MPI: one round is one map job.

Every replica runs a segment at its temperature in an invocation of its own; the driver then attempts the swaps of
neighbouring temperatures, commits the round by one object, and starts the next job from the swapped states.
"""
