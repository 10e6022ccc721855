"""`python -m sana_wm_gym` is `sana-wm`."""

import sys

from sana_wm_gym.cli import main

sys.exit(main())
