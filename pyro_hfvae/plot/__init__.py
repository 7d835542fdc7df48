"""Pictures and the report of a run."""

from pyro_hfvae.plot.decode import decode, posterior_modes, sample, traverse
from pyro_hfvae.plot.pictures import block_factor_heatmap, image_grid, importance_matrix, term_curves
from pyro_hfvae.plot.report import write_report
from pyro_hfvae.plot.summary import summary_lines

__all__ = [
    "block_factor_heatmap",
    "decode",
    "image_grid",
    "importance_matrix",
    "posterior_modes",
    "sample",
    "summary_lines",
    "term_curves",
    "traverse",
    "write_report",
]
