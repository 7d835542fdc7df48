"""The block layout: what it groups, and what it refuses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.blocks import block_names, indices_of_site, resolve_blocks

SITES = {"z": 10, "digit": 1}


def names(blocks):
    return {block: [variable.name for variable in variables] for block, variables in blocks.items()}


def test_each_site_is_a_block_by_default():
    assert names(resolve_blocks(None, {"z": 2, "digit": 1}).blocks) == {"z": ["z[0]", "z[1]"], "digit": ["digit"]}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["z"], list(range(10))),
        (["z[0:4]", "z[4:]"], list(range(10))),
        (["z[:3,5,7:10]", "z[3:5]", "z[6]"], [0, 1, 2, 5, 7, 8, 9, 3, 4, 6]),
    ],
)
def test_parts_of_a_site(parts, expected):
    blocks = resolve_blocks({"all": [*parts, "digit"]}, SITES).blocks
    assert [variable.index for variable in blocks["all"][:-1]] == expected
    assert blocks["all"][-1].site == "digit"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"a": ["y"]}, "block 'a' names site 'y', which model and guide do not share; they share: 'z', 'digit'"),
        ({"a": ["z[0:6]"], "b": ["z[5:]", "digit"]}, "variable 5 of site 'z' is in block 'a' and again in block 'b'"),
        ({"a": ["z", "z[3]"], "b": ["digit"]}, "variable 3 of site 'z' is in block 'a' and again in block 'a'"),
        ({"a": ["z[0:8]", "digit"]}, "site 'z' has variables in no block: z[8], z[9]"),
        ({"a": ["z"]}, "site 'digit' has variables in no block: digit"),
        ({"a": ["z[0:11]"]}, "block 'a' has the part 'z[0:11]', but its site has the variables 0 to 9"),
        ({"a": ["z[4:4]"]}, "block 'a' has the part 'z[4:4]', but its site has the variables 0 to 9"),
        ({"a": ["z[-1]"]}, "block 'a' has the part 'z[-1]'; '-1' is no index and no slice a:b"),
        ({"a": ["z[0:4"]}, "block 'a' has the part 'z[0:4'; write 'site', 'site[3]', 'site[0:4]' or 'site[0:2,5]'"),
        ({"a": []}, "block 'a' must be a list of one or more sites or parts of sites, got []"),
        ({"a": "z"}, "block 'a' must be a list of one or more sites or parts of sites, got 'z'"),
        ({"a": {}}, "block 'a' must be a list of one or more sites or parts of sites, got {}"),
        ({"a": {"a": ["z"]}, "b": ["digit"]}, "'a' names two groups or blocks: give another name"),
        ({"joint": ["z", "digit"]}, "'joint' is the name of the group of everything: give another name"),
        (
            {"g": {"a": ["z[0:6]"]}, "b": ["z[5:]", "digit"]},
            "variable 5 of site 'z' is in block 'a' and again in block 'b'",
        ),
    ],
)
def test_what_is_refused_names_block_and_site(layout, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        resolve_blocks(layout, SITES)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_any_partition_of_single_variables_holds_each_once(sizes, random):
    sites = {f"s{index}": size for index, size in enumerate(sizes)}
    parts = [f"{site}[{index}]" for site, size in sites.items() for index in range(size)]
    random.shuffle(parts)
    cut = random.randint(0, len(parts) - 1)
    layout = {"left": parts[: cut + 1]} | ({"right": parts[cut + 1 :]} if parts[cut + 1 :] else {})
    found = [variable for variables in resolve_blocks(layout, sites).blocks.values() for variable in variables]
    assert sorted((variable.site, variable.index) for variable in found) == sorted(
        (site, index) for site, size in sites.items() for index in range(size)
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


def test_one_site_of_a_layout():
    """What a handler that meets one site after another sees of the layout is what the whole tree says of the site."""
    layout = {"a": ["z[0]", "z[3:]"], "b": {"c": ["z[1:3]", "y"], "d": ["w[1]"]}, "e": ["w[0]"]}
    sizes = {"z": 5, "y": 1, "w": 2}
    root = resolve_blocks(layout, sizes)
    assert block_names(layout) == ["a", "b", "c", "d", "e"]
    for site, size in sizes.items():
        found = indices_of_site(layout, site, size)
        assert found.keys() == set(block_names(layout))
        for node in [*root.children, *root.children[1].children]:
            assert found[node.name] == [variable.index for variable in node.variables if variable.site == site]
    with pytest.raises(ValueError, match="block 'a' has the part 'z\\[9\\]', but its site has the variables 0 to 4"):
        indices_of_site({"a": ["z[9]"]}, "z", 5)
