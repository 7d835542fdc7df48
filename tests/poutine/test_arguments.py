"""The handlers leave it to sites which distribution a latent has."""

import re
from pathlib import Path

from pyro_hfvae import poutine


def test_no_handler_knows_a_distribution():
    for path in Path(poutine.__file__).parent.glob("*.py"):
        imports = [line for line in path.read_text().splitlines() if re.match(r"\s*(from|import) ", line)]
        assert not [line for line in imports if "torch.distributions" in line or "pyro.distributions" in line], path
