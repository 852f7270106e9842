"""Scientific applications on the map-reduce core; each is a package with a command, ``python -m apps.<name>``."""
