import pytest

from pyro_hfvae.plot.checks import read_checks
from pyro_hfvae.posterior import Finding, summary

FOUND = [
    Finding("gap of the ELBO", False, "ELBO -2.00,  the guide costs: 1.00 nats", "compare by the bound: not the ELBO"),
    Finding("calibration", True, "ranks - of 200 simulated data: nothing off", "never said"),
]


def test_all_that_the_checks_say_is_read():
    said = read_checks(summary(FOUND))
    assert said.verdict == "1 of 2 checks are fine"
    assert said.findings == [(finding.subject, finding.fine, finding.said) for finding in FOUND]
    assert said.advice == [("gap of the ELBO", "compare by the bound: not the ELBO")]
    assert said.others == []


@pytest.mark.parametrize("text", ["", "\n", "all is well\n"])
def test_no_finding(text):
    said = read_checks(text)
    assert said == (text.strip(), [], [], [])


def test_lines_of_another_kind_are_kept():
    said = read_checks("1 of 1 checks are fine\nfine only one space\nNOT FINE  subject\n")
    assert said.others == ["fine only one space", "NOT FINE  subject"]
