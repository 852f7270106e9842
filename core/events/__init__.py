"""Who listens to jobs: progress bar, event log, timeline, prices."""
