"""Two sets of multivariate series of the UEA archive, as sktime distributes them."""

from collections.abc import Sequence
from typing import ClassVar

from pyro_hfvae.data.known_file import KnownFile
from pyro_hfvae.data.sequences import Sequences

__all__ = ["BasicMotions", "JapaneseVowels"]

_SKTIME = "https://raw.githubusercontent.com/sktime/sktime/v1.2.0/sktime/datasets/data"


class _SeriesSet(Sequences):
    """A training file and a test file in the data root, downloaded where missing; the test set is held out."""

    files: ClassVar[tuple[KnownFile, KnownFile]]

    def __init__(self, factors: Sequence[str] = ("class",), standardise: bool = True) -> None:
        for known in self.files:
            known.fetch()
        training, test = (str(known.file) for known in self.files)
        super().__init__(training, factors, standardise=standardise, held_out=test)


class BasicMotions(_SeriesSet):
    """Movements of a wrist: 80 series of 100 steps (ten a second), 40 held out, of four activities.

    x is ``[B, 100, 6]``: three axes of acceleration and three of rotation. The files lie in ``basic_motions`` in the
    data root (:func:`~pyro_hfvae.data.data_root`), and are downloaded where missing.

    Args:
        factors: ``class``, the activity.
        standardise: by the training series.

    Raises:
        FileNotFoundError: a file is neither there nor to be had.
        ValueError: a file is damaged.
    """

    licence = "none stated; distributed with sktime (BSD-3-Clause)"
    citation = "Bagnall et al., The UEA multivariate time series classification archive, 2018, arXiv:1811.00075"
    files = (
        KnownFile(
            "basic_motions/BasicMotions_TRAIN.ts",
            "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
            f"{_SKTIME}/BasicMotions/BasicMotions_TRAIN.ts",
        ),
        KnownFile(
            "basic_motions/BasicMotions_TEST.ts",
            "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
            f"{_SKTIME}/BasicMotions/BasicMotions_TEST.ts",
        ),
    )


class JapaneseVowels(_SeriesSet):
    """Two vowels by nine speakers: 640 series of 7 to 29 steps, 370 held out.

    x is ``[B, 29, 12]``, coefficients of linear prediction. The files lie in ``japanese_vowels`` in the data root
    (:func:`~pyro_hfvae.data.data_root`), and are downloaded where missing.

    Args:
        factors: ``class``, the speaker.
        standardise: by the training series.

    Raises:
        FileNotFoundError: a file is neither there nor to be had.
        ValueError: a file is damaged.
    """

    licence = "CC BY 4.0"
    citation = (
        "Kudo, Toyama, Shimbo, Multidimensional curve classification using passing-through regions, Pattern "
        "Recognition Letters 20, 1999"
    )
    files = (
        KnownFile(
            "japanese_vowels/JapaneseVowels_TRAIN.ts",
            "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
            f"{_SKTIME}/JapaneseVowels/JapaneseVowels_TRAIN.ts",
        ),
        KnownFile(
            "japanese_vowels/JapaneseVowels_TEST.ts",
            "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
            f"{_SKTIME}/JapaneseVowels/JapaneseVowels_TEST.ts",
        ),
    )
