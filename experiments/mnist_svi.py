"""Plain Pyro on MNIST: a 10-d Gaussian and a 10-way Concrete, trained with SVI. Usage: python mnist_svi.py [FOLDER]."""

import sys

import pyro
import torch
from pyro.infer import SVI
from pyro.optim import Adam  # type: ignore[attr-defined]  # made at import time

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.data import MNIST, IndexBatches
from pyro_hfvae.guides import ImageGuide, MLPEncoder
from pyro_hfvae.models import ImageModel, MLPDecoder

pyro.set_rng_seed(0)
mnist = MNIST(*sys.argv[1:2])
model = ImageModel({"style": 10}, {"digit": 10}, decoder=MLPDecoder)
guide = ImageGuide({"style": 10}, {"digit": 10}, encoder=MLPEncoder)
elbo = HierarchicalELBO(data_size=60_000, mutual_information=0.5, between=5.0, within=3.0)
svi = SVI(model, guide, Adam({"lr": 1e-3}), loss=elbo)
for step, batch in enumerate(IndexBatches(torch.arange(60_000), 128, seed=0), start=1):
    svi.step(mnist.images(batch))
    if step % 469 == 0:  # an epoch
        terms = elbo.terms(model, guide, mnist.images(batch)).scalars()
        print(step, "  ".join(f"{name} {value:.2f}" for name, value in terms.items()), flush=True)
    if step == 5 * 469:
        break
