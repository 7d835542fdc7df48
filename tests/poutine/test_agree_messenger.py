"""Who is whose partner: noted without a change of anything, and refused where it does not fit."""

import doctest

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_hfvae import HierarchicalELBO
from pyro_hfvae.infer.notes import has_partners, open_gates, own_posterior, partners_of
from pyro_hfvae.infer.penalties import Agreement
from pyro_hfvae.poutine import agree, agree_messenger, gate, swap

LOC = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
GIVEN = {"lr": 1}


def guide():
    with pyro.plate("data", 3):
        pyro.sample("z", dist.Normal(LOC, 1.0).to_event(1), infer=GIVEN)
        pyro.sample("y", dist.Normal(LOC[:, 0], 1.0))


def trace(*handlers):
    torch.manual_seed(0)
    with handlers[0]:
        return trace(*handlers[1:]) if handlers[1:] else poutine.trace(guide).get_trace()


def test_example_of_the_class():
    names = {"torch": torch, "pyro": pyro, "dist": dist, "agree": agree}
    names |= {"HierarchicalELBO": HierarchicalELBO, "Agreement": Agreement}
    results = doctest.testmod(agree_messenger, extraglobs=names)
    assert results.attempted == 7
    assert results.failed == 0


def test_nothing_is_computed_otherwise_and_nothing_of_the_program_changed():
    plain = trace(gate({}))
    noted = trace(agree({"z": [True, True, False]}, [1, 0, 2]))
    assert not has_partners(plain)
    assert has_partners(noted)
    for name in ("z", "y"):
        assert noted.nodes[name]["value"].equal(plain.nodes[name]["value"])
        assert type(noted.nodes[name]["fn"]) is type(plain.nodes[name]["fn"])
    assert GIVEN == {"lr": 1}
    assert noted.nodes["z"]["infer"]["lr"] == 1
    partners = partners_of(noted.nodes["z"])
    assert partners.places.tolist() == [1, 0, 2]
    assert partners.shared["z"].tolist() == [True, True, False]
    assert partners.variables == {"z": [0, 1]}
    assert partners_of(noted.nodes["y"]) is None


def test_slices_of_sites_gates_in_gates_and_swaps_of_swaps():
    layout = {"one": ["z[0]", "y"], "two": ["z[1]"]}
    mask, none = [True, True, False], [False] * 3
    first = gate({"one": [True, True, False]}, blocks=layout)
    second = gate({"two": [True, False, False], "one": [False, True, True]}, blocks=layout)
    swaps = [swap({"z": mask}, [1, 0, 2]), swap({"z": [True, True, True]}, [2, 0, 1])]
    noted = trace(*swaps, first, agree({"one": mask, "two": none}, [1, 0, 2], layout), second).nodes
    assert partners_of(noted["z"]).variables == {"one": [0], "two": [1]}
    assert partners_of(noted["y"]).variables == {"one": [0]}
    assert open_gates(noted["z"]).tolist() == [[False, True], [True, False], [False, False]]
    assert open_gates(noted["y"]).tolist() == [[False], [True], [False]]
    assert own_posterior(noted["z"]).base_dist.loc.equal(LOC)
    assert not noted["z"]["fn"].base_dist.loc.equal(LOC)
    assert own_posterior(noted["y"]) is noted["y"]["fn"]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (({"z": [1, 0, 1]}, [1, 0, 2]), TypeError, "the mask of block 'z' must be a boolean tensor, got torch.int64"),
        (({"z": [True, True]}, [1, 0, 2]), ValueError, "block 'z' has the shape .2,., but there are 3 partners"),
        (({"z": [True] * 3}, [1, 0, 3]), ValueError, "partners must be from 0 to 2"),
        (({"z": [True] * 3}, [1, 0, 2], {"pose": ["z"]}), ValueError, "a mask for 'z', which is no block; the blocks"),
        (({"z": [True] * 2}, [1, 0]), ValueError, "there are 2 partners, but site 'z' has the batch shape .3,."),
        (({"w": [True] * 3}, [1, 0, 2]), ValueError, "share 'w' with their partners, but no such block was sampled"),
    ],
)
def test_what_does_not_fit(given, kind, message):
    with pytest.raises(kind, match=message):
        trace(agree(*given))
