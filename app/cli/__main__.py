"""`python -m app.cli`: the command `vp`."""

import sys

from app.cli.main import main

sys.exit(main())
