"""`python -m jvrc.cli`, where the `jvrc` script is not on the path."""

import sys

from jvrc.cli import main

sys.exit(main())
