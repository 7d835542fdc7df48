"""Tables that scikit-learn carries inside."""

from typing import Literal, get_args

from sklearn import datasets

from pyro_hfvae.data.table import Table

__all__ = ["ScikitLearnTable"]

Name = Literal["breast_cancer", "diabetes", "digits", "iris", "wine"]


class ScikitLearnTable(Table):
    """A table that is part of scikit-learn: nothing is downloaded, and no file is needed.

    Its target is the one factor: ``class``, or ``progression`` of diabetes, a number. Pixels of digits are counts from
    0 to 16; those that are 0 in all images are left out.

    Args:
        name: ``breast_cancer``, ``diabetes``, ``digits``, ``iris`` or ``wine``.

    Raises:
        ValueError: there is no such table.
    """

    def __init__(self, name: Name) -> None:
        if name not in get_args(Name):
            raise ValueError(f"scikit-learn has no table '{name}' that is known here: {', '.join(get_args(Name))}")
        found = getattr(datasets, f"load_{name}")(as_frame=True)
        frame = found.data.loc[:, found.data.nunique() > 1].copy()
        factor = "progression" if name == "diabetes" else "class"
        frame[factor] = found.target if name == "diabetes" else found.target_names[found.target].astype(str)
        super().__init__(frame, factors=[factor], kinds="count" if name == "digits" else None)
        self.citation = f"scikit-learn, sklearn.datasets.load_{name}, which names the source"
