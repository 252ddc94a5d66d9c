"""`python -m jvrc`, the same as the script `jvrc`."""

import sys

from jvrc.cli import main

sys.exit(main())
