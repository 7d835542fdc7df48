"""``python -m pyro_hfvae``, the same as ``pyro-hfvae``."""

import os
import sys

from pyro_hfvae.cli import main

if sys.path[:1] in ([""], [os.getcwd()]) and not sys.flags.safe_path:
    del sys.path[0]  # -m puts the current folder there, which is no import path for somebody else's run
sys.exit(main())
