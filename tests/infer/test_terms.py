"""The terms as a named result."""

import torch

from pyro_hfvae.infer import BlockTerms, Terms, VariableTerms


def test_printed_terms_are_numbers_of_all_blocks_and_variables():
    a, b, c, d = (torch.tensor(value, requires_grad=True) for value in (1.0, 0.5, -0.001, 2.0))
    variables = {"z[0]": VariableTerms(a, b), "z[1]": VariableTerms(b, c)}
    blocks = {
        "z": BlockTerms(a, a, b, d, variables, discrete=False),
        "digit": BlockTerms(b, b, c, c, {"digit": VariableTerms(b, c)}, discrete=True),
    }
    assert str(Terms(-d, a, b, c, d, blocks)).splitlines() == [
        "elbo -5.50, reconstruction -2.00, mutual_information 1.00, between 0.50, within 0.00, dimension 2.00",
        "z: mutual_information 1.00, within 0.50, dimension 2.00",
        "  z[0]: mutual_information 1.00, dimension 0.50",
        "  z[1]: mutual_information 0.50, dimension 0.00",
        "digit: mutual_information 0.50, within 0.00, dimension 0.00",
    ]
