"""Training with Lightning: the module around the objective, the batches, the run folder, and loading it again."""

from pyro_hfvae.interruption import TrainingStoppedError
from pyro_hfvae.train.data_module import DataModule
from pyro_hfvae.train.fit import denormals_as_zero, fit
from pyro_hfvae.train.load import LoadedRun, load_run
from pyro_hfvae.train.run_folder import RunFolder
from pyro_hfvae.train.training import Training

__all__ = [
    "DataModule",
    "LoadedRun",
    "RunFolder",
    "Training",
    "TrainingStoppedError",
    "denormals_as_zero",
    "fit",
    "load_run",
]
