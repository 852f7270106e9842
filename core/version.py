"""The version of this source tree, which a checkout that is not installed has as well."""

__version__ = "0.1.0"
