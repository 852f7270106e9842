"""``python -m core.cli`` is the ``fanfold`` command, where that is not on the path."""

import sys

from core.cli.main import main

sys.exit(main())
