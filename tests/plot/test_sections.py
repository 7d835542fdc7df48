from drawing import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_hfvae.plot.sections import WIDTH, sections, shortened, wrapped
from pyro_hfvae.plot.style import DPI, FONT, style, text_width

LONG = "a title of many more words than go into one line of a figure that is as wide as a phone"


def boxes(figure):
    return [axes.get_window_extent() for axes in figure.axes]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 3), st.floats(0, 0.3))
@settings(max_examples=5, deadline=None)
def test_panels_and_headings_do_not_overlap(counts, across, below):
    with style():
        figure, axes = sections(
            [f"heading {at}" for at in range(len(counts))], counts, LONG, across=across, below=below
        )
    assert [len(some) for some in axes] == counts
    figure.draw_without_rendering()
    texts = [text.get_window_extent() for text in figure.texts]
    every = [*boxes(figure), *texts]
    for at, one in enumerate(every):
        assert one.x0 >= 0
        assert one.y0 >= 0
        assert one.x1 <= figure.bbox.x1
        assert one.y1 <= figure.bbox.y1
        for other in every[:at]:
            assert not one.overlaps(other) or one.y0 >= other.y1 - 1 or other.y0 >= one.y1 - 1


def test_a_figure_is_as_wide_as_a_phone():
    figure, _ = sections(["a"], [4], "title")
    assert figure.get_figwidth() == WIDTH <= 4.3


def test_lines_of_a_title():
    lines = wrapped(LONG, 3.0, FONT)
    assert len(lines) > 1
    assert " ".join(lines) == LONG
    assert all(text_width([line], FONT) <= 3.0 * DPI for line in lines)
    assert wrapped(HOSTILE.replace(" ", ""), 0.1, FONT) == [HOSTILE.replace(" ", "")]


def test_names_that_are_too_long_end_in_dots():
    assert shortened("age", 1.0, FONT) == "age"
    cut = shortened(LONG, 1.0, FONT)
    assert cut.endswith("…")
    assert LONG.startswith(cut[:-1])
    assert text_width([cut], FONT) <= DPI
    assert shortened("wide", 0.01, FONT) == "w…"
