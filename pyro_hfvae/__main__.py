"""``python -m pyro_hfvae``, the same as ``pyro-hfvae``."""

import sys

from pyro_hfvae.cli import main

sys.exit(main())
