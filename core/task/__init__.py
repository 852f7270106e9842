"""What driver and worker share: records, calls, running a batch, messages, commits, leases, notices."""
