"""`python -m kairos_core.cli …`: the command `kairos`."""

import sys

from kairos_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
