"""What every application is built on: commands, parameters, runs, stages, reports, tables.

See docs/new-application.md, which builds an application step by step.
"""

from apps._frame.command import App, Command
from apps._frame.session import Session

__all__ = ["App", "Command", "Session"]
