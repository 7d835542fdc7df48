"""The block layout: what it groups, and what it refuses."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.blocks import Group, block_names, indices_of_site, resolve_blocks
from pyro_hfvae.guides import ImageGuide
from pyro_hfvae.models import ImageModel

SITES = {"z": (10,), "digit": ()}
OBJECTS = {"z": (3, 4), "digit": ()}


def names(blocks):
    return {block: [variable.name for variable in variables] for block, variables in blocks.items()}


def test_each_site_is_a_block_by_default():
    assert names(resolve_blocks(None, {"z": (2,), "digit": ()}).blocks) == {"z": ["z[0]", "z[1]"], "digit": ["digit"]}


def test_names_are_coordinates_except_for_a_single_variable():
    sites = {"z": torch.Size([2, 2]), "one": (1, 1), "scalar": (), "w": (2,)}
    assert names(resolve_blocks(None, sites).blocks) == {
        "z": ["z[0,0]", "z[0,1]", "z[1,0]", "z[1,1]"], "one": ["one"], "scalar": ["scalar"], "w": ["w[0]", "w[1]"],
    }  # fmt: skip


@pytest.mark.parametrize("entry", ["digit", "digit[0]", "digit[:]", "digit[-1]", "digit[...]"])
def test_a_scalar_is_named_like_a_vector_of_one(entry):
    assert resolve_blocks({"a": ["z", entry]}, SITES) == resolve_blocks({"a": ["z", "digit"]}, SITES)


def test_a_site_whose_name_has_brackets():
    assert names(resolve_blocks(None, {"z[0]": (2,), "z": (2,)}).blocks)["z[0]"] == ["z[0][0]", "z[0][1]"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["z"], list(range(10))),
        (["z[0:4]", "z[4:]"], list(range(10))),
        (["z[:3,5,7:10]", "z[3:5]", "z[6]"], [0, 1, 2, 5, 7, 8, 9, 3, 4, 6]),
        (["z[-1]", "z[:-1]"], [9, *range(9)]),
        (["z[-3:, 0]", "z[..., 1:7]"], [7, 8, 9, 0, 1, 2, 3, 4, 5, 6]),
        (["z[::2]", "z[1::2]"], [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]),
    ],
)
def test_slices_of_a_vector(entries, expected):
    blocks = resolve_blocks({"all": [*entries, "digit[...]"]}, SITES).blocks
    assert [variable.index for variable in blocks["all"][:-1]] == expected
    assert blocks["all"][-1].site == "digit"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("z[:, 0:2]", [0, 1, 4, 5, 8, 9]),
        ("z[0]", [0, 1, 2, 3]),
        ("z[..., 2]", [2, 6, 10]),
        ("z[1, 0:2]", [4, 5]),
        ("z[-1,-1]", [11]),
        ("z[1:, ...]", [4, 5, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_slices_of_objects_and_attributes(entry, expected):
    assert indices_of_site({"a": [entry]}, "z", (3, 4)) == {"a": expected}


@st.composite
def indexed(draw):
    """A shape, what stands between the brackets, and the same as NumPy takes it."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))

    def item(size):
        if draw(st.booleans()):
            index = draw(st.integers(-size, size - 1))
            return str(index), index
        ends = [draw(st.none() | st.integers(-size, size)) for _ in range(2)]
        step = draw(st.sampled_from([None, None, 1, 2, -1, -2]))
        texts = ["" if end is None else str(end) for end in ends]
        return ":".join(texts if step is None else [*texts, str(step)]), slice(*ends, step)

    before = draw(st.integers(0, len(shape)))
    after = draw(st.integers(0, len(shape) - before))
    items = [item(size) for size in shape[:before]]
    if len(shape) > 1 and after == 0 and items and draw(st.booleans()):
        pass  # dimensions at the end may be left out
    else:
        items += [("...", ...), *(item(size) for size in shape[len(shape) - after :])]
    separator = draw(st.sampled_from([",", ", ", " , "]))
    return shape, separator.join(text for text, _ in items), tuple(index for _, index in items)


@given(indexed())
def test_indices_are_those_of_numpy(case):
    shape, text, index = case
    expected = np.arange(np.prod(shape)).reshape(shape)[index].ravel().tolist()
    if expected:
        assert indices_of_site({"a": [f"z[{text}]"]}, "z", shape) == {"a": expected}
    else:
        with pytest.raises(ValueError, match="is empty or out of range"):
            indices_of_site({"a": [f"z[{text}]"]}, "z", shape)


@given(st.integers(1, 6), st.data())
def test_commas_list_the_variables_of_a_vector(size, data):
    items = data.draw(st.lists(st.integers(-size, size - 1) | st.just(slice(None, -1)), min_size=1, max_size=4))
    text = ",".join(":-1" if isinstance(item, slice) else str(item) for item in items)
    expected = np.r_[tuple(np.arange(size)[item] for item in items)].tolist()
    if size > 1:
        assert indices_of_site({"a": [f"z[{text}]"]}, "z", (size,)) == {"a": expected}


RANGE = "is empty or out of range; the indices are 0 to"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"a": ["y"]}, "block 'a' names site 'y', which model and guide do not share; they share: 'z', 'digit'"),
        ({"a": ["z[0:6]"], "b": ["z[5:]", "digit"]}, "z[5] is in block 'a' and again in block 'b'"),
        ({"a": ["z", "z[3]"], "b": ["digit"]}, "z[3] is in block 'a' and again in block 'a'"),
        ({"a": ["z[0:8]", "digit"]}, "site 'z' has variables in no block: z[8], z[9]"),
        ({"a": ["z"]}, "site 'digit' has variables in no block: digit"),
        ({"a": ["z[0:11]"]}, f"block 'a' has 'z[0:11]', but site 'z' has the shape (10,): '0:11' {RANGE} 9"),
        ({"a": ["z[10]"]}, f"block 'a' has 'z[10]', but site 'z' has the shape (10,): '10' {RANGE} 9"),
        ({"a": ["z[-11]"]}, f"block 'a' has 'z[-11]', but site 'z' has the shape (10,): '-11' {RANGE} 9"),
        ({"a": ["z[4:4]"]}, f"block 'a' has 'z[4:4]', but site 'z' has the shape (10,): '4:4' {RANGE} 9"),
        (
            {"a": ["z[x]"]},
            "block 'a' has 'z[x]', but site 'z' has the shape (10,): 'x' is neither an index nor a slice a:b",
        ),
        ({"a": ["digit[1]"]}, f"block 'a' has 'digit[1]', but site 'digit' has the shape (1,): '1' {RANGE} 0"),
        ({"a": ["z[0:4"]}, "block 'a' has 'z[0:4'; write 'site', or a slice as 'site[0:4]' or 'site[:, 0:2]'"),
        ({"a": [3]}, "block 'a' has 3; write 'site', or a slice as 'site[0:4]' or 'site[:, 0:2]'"),
        ({"a": [["z"]]}, "block 'a' has ['z']; write 'site', or a slice as 'site[0:4]' or 'site[:, 0:2]'"),
        ({"a": []}, "block 'a' must be a list of one or more sites or slices of sites, got []"),
        ({"a": "z"}, "block 'a' must be a list of one or more sites or slices of sites, got 'z'"),
        ({"a": {}}, "block 'a' must be a list of one or more sites or slices of sites, got {}"),
        ({"a": None}, "block 'a' must be a list of one or more sites or slices of sites, got None"),
        ({}, "blocks must map the name of each block to a list of sites, got {}"),
        (["z"], "blocks must map the name of each block to a list of sites, got ['z']"),
        ({"a": {"a": ["z"]}, "b": ["digit"]}, "two groups or blocks have the name 'a' (that of all blocks is 'joint')"),
        ({"joint": ["z", "digit"]}, "two groups or blocks have the name 'joint' (that of all blocks is 'joint')"),
        ({"g": {"a": ["z[0:6]"]}, "b": ["z[5:]", "digit"]}, "z[5] is in block 'a' and again in block 'b'"),
    ],
)
def test_what_is_refused_names_block_and_site(layout, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        resolve_blocks(layout, SITES)


@pytest.mark.parametrize("indices", ["", "x", "1.5", "0:1:2:3", "::0", "None", "(0,2)", "0,", "z", "[0]", ":,,"])
@pytest.mark.parametrize("shape", [(10,), (3, 4), (2, 2, 2)])
def test_what_is_no_index_is_refused(indices, shape):
    with pytest.raises(ValueError, match=r"^block 'a' has 'z\["):
        resolve_blocks({"a": [f"z[{indices}]"]}, {"z": shape})


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("z[0, 1, 2]", "write one index or slice for each of its 2 dimensions, or '...' once"),
        ("z[..., 0, ...]", "write one index or slice for each of its 2 dimensions, or '...' once"),
        ("z[0:2, 5]", f"'5' {RANGE} 3"),
        ("z[3]", f"'3' {RANGE} 2"),
        ("z[0, 2:1]", f"'2:1' {RANGE} 3"),
        ("z[:, ]", "'' is neither an index nor a slice a:b"),
    ],
)
def test_what_is_refused_of_two_dimensions(entry, reason):
    message = f"block 'a' has '{entry}', but site 'z' has the shape (3, 4): {reason}"
    for call in (lambda: resolve_blocks({"a": [entry]}, OBJECTS), lambda: indices_of_site({"a": [entry]}, "z", (3, 4))):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_variables_of_two_dimensions_in_two_blocks_or_none():
    with pytest.raises(ValueError, match=r"^z\[1,2\] is in block 'a' and again in block 'b'$"):
        resolve_blocks({"a": ["z[:, 0:3]"], "b": ["z[1, 2:]"]}, OBJECTS)
    with pytest.raises(ValueError, match=r"^site 'z' has variables in no block: z\[0,3\], z\[1,3\], z\[2,3\]$"):
        resolve_blocks({"a": ["z[:, 0:3]", "digit"]}, OBJECTS)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_any_partition_of_single_variables_holds_each_once(sizes, random):
    sites = {f"s{index}": (size, 2) if index else (size,) for index, size in enumerate(sizes)}
    places = {site: np.ndindex(*shape) for site, shape in sites.items()}
    entries = [f"{site}[{','.join(map(str, place))}]" for site, some in places.items() for place in some]
    random.shuffle(entries)
    cut = random.randint(0, len(entries) - 1)
    layout = {"left": entries[: cut + 1]} | ({"right": entries[cut + 1 :]} if entries[cut + 1 :] else {})
    found = [variable for variables in resolve_blocks(layout, sites).blocks.values() for variable in variables]
    assert sorted((variable.site, variable.index) for variable in found) == sorted(
        (site, index) for site, shape in sites.items() for index in range(int(np.prod(shape)))
    )


def test_groups_of_blocks_to_any_depth():
    layout = {"body": {"pose": {"place": ["z[0:2]"], "turn": ["z[2]"]}, "size": ["z[3:]"]}, "digit": ["digit"]}
    tree = resolve_blocks(layout, SITES)
    assert {name: len(variables) for name, variables in tree.blocks.items()} == {
        "place": 2, "turn": 1, "size": 7, "digit": 1,
    }  # fmt: skip
    assert [(node.name, node.level, [child.name for child in node.children]) for node in tree.groups()] == [
        ("joint", 0, ["body", "digit"]),
        ("body", 1, ["pose", "size"]),
        ("pose", 2, ["place", "turn"]),
    ]
    assert [variable.name for variable in tree.variables] == [f"z[{index}]" for index in range(10)] + ["digit"]


def test_sets_are_those_of_nodes_and_variables_each_once():
    tree = resolve_blocks({"a": ["z[0:2]"], "g": {"b": ["z[2]"], "c": ["z[3:]"]}}, {"z": (5,)})
    z = tree.variables
    expected = [z, z[:2], z[2:], z[2:3], z[3:], z[:1], z[1:2], z[3:4], z[4:]]
    assert tree.sets() == [Group(some) for some in expected]


def test_one_site_of_a_layout():
    """A handler that meets one site after another reads the same from the layout as the whole tree has."""
    layout = {"a": ["z[0]", "z[3:]"], "b": {"c": ["z[1:3]", "y"], "d": ["w[:, 1]"]}, "e": ["w[:, 0]"]}
    shapes = {"z": (5,), "y": (), "w": (2, 2)}
    root = resolve_blocks(layout, shapes)
    assert block_names(layout) == ["a", "b", "c", "d", "e"]
    for site, shape in shapes.items():
        found = indices_of_site(layout, site, shape)
        assert found.keys() == set(block_names(layout))
        for node in [*root.children, *root.children[1].children]:
            assert found[node.name] == [variable.index for variable in node.variables if variable.site == site]
    with pytest.raises(ValueError, match=r"block 'a' has 'z\[9\]', but site 'z' has the shape \(5,\): '9' is empty"):
        indices_of_site({"a": ["z[9]"]}, "z", (5,))


@pytest.mark.parametrize(
    ("gaussian", "discrete", "message"),
    [
        ({"type": 2}, {}, "'type' cannot name a block: it is empty, has a dot or is a name of torch's own"),
        ({}, {"keys": 2}, "'keys' cannot name a block"),
        ({"training": 2}, {}, "'training' cannot name a block"),
        ({"z.a": 2}, {}, "'z.a' cannot name a block"),
        ({"": 2}, {}, "'' cannot name a block"),
        ({True: 2}, {}, "the name of a block must be text, got True: put it in quotes"),
        ({"y": 2}, {1: 2}, "the name of a block must be text, got 1"),
        ({"z": -2}, {}, "block 'z' must have 1 variable or category or more, got -2"),
        ({}, {"y": 0}, "block 'y' must have 1 variable or category or more, got 0"),
        ({"z": 2}, {"z": 2}, "block 'z' is both Gaussian and discrete"),
        ({}, {}, "there is no block: name a Gaussian or a discrete one with its size"),
    ],
)
@pytest.mark.parametrize("program", [ImageModel, ImageGuide])
def test_blocks_that_programs_refuse(program, gaussian, discrete, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        program(gaussian, discrete)
