"""Where objects live: the storage protocol and its drivers."""
