"""The tests; a package, so that no package of this name elsewhere takes its place."""
