"""Partners against brute force: a grid of uniform numbers draws every partner exactly once."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_hfvae.weak import Groups, IndexPairs, Pairing, SharedFactors
from pyro_hfvae.weak.partners import GroupPartners, ListedPartners


def everyone(draw, datum, count):
    """What the midpoints of ``count`` equal parts of [0, 1) draw for a datum: each choice once if all are as likely."""
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return sorted(draw(torch.full((count,), datum), uniform).tolist())


def check(partners, shares, candidates):
    """``shares(a, b)`` for a != b is the truth; ``candidates`` are the data that wrong partners may come from."""
    for datum in range(len(partners.count)):
        true = [other for other in range(len(partners.count)) if other != datum and shares(datum, other)]
        assert partners.has_partner[datum] == bool(true)
        if true:
            assert everyone(partners.sharing, datum, len(true)) == true
        false = [other for other in candidates if other != datum and other not in true]
        if true:
            assert partners.others[datum] == len(false)
            if false:
                assert everyone(partners.differing, datum, len(false)) == false


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=25))
def test_groups(labels):
    known = [datum for datum, label in enumerate(labels) if label >= 0]
    check(
        GroupPartners(torch.tensor(labels)),
        lambda a, b: labels[a] == labels[b] >= 0,
        known,
    )


@given(st.integers(2, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30))
def test_listed_pairs(size, pairs):
    pairs = {(a % size, b % size) for a, b in pairs if a % size != b % size}
    either = pairs | {(b, a) for a, b in pairs}
    listed = torch.tensor(sorted(pairs), dtype=torch.int64).view(-1, 2)
    check(ListedPartners(listed, size), lambda a, b: (a, b) in either, range(size))


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("partners", [GroupPartners(torch.tensor([0, 1, 0, 1, 1, 0, 2])), "listed"])
def test_the_ends_of_the_unit_interval(partners, uniform):
    if partners == "listed":
        partners = ListedPartners(torch.tensor([[0, 2], [0, 5], [1, 3], [4, 1], [6, 5]]), 7)
    data = torch.tensor([0, 1, 5])
    for draw in (partners.sharing, partners.differing):
        drawn = draw(data, torch.full((3,), uniform, dtype=torch.float64))
        assert (drawn != data).all()
        assert ((drawn >= 0) & (drawn < 7)).all()


@given(
    st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 3), st.integers(0, 1)), min_size=2, max_size=25),
    st.sets(st.sampled_from(["a", "b", "c"]), min_size=1),
    st.randoms(use_true_random=False),
)
def test_shared_factors_agree_in_every_one(factors, names, random):
    indices = sorted(random.sample(range(100), len(factors)))
    columns = ["abc".index(name) for name in names]

    def key(datum):
        return [factors[datum][column] for column in columns]

    partners = SharedFactors(sorted(names)).partners(torch.tensor(indices), torch.tensor(factors), ("a", "b", "c"))
    known = [datum for datum in range(len(factors)) if min(key(datum)) >= 0]
    check(partners, lambda a, b: a in known and key(a) == key(b), known)


def test_groups_and_pairs_are_those_of_the_training_data():
    indices = torch.tensor([1, 3, 4, 8])
    groups = Groups(torch.tensor([7, 7, 0, 9, 7, 7, 7, 7, 9])).partners(indices, torch.zeros(4, 0), ())
    assert groups.has_partner.tolist() == [True, True, True, True]
    assert everyone(groups.sharing, 0, 1) == [2]
    assert everyone(groups.differing, 0, 2) == [1, 3]
    pairs = IndexPairs(torch.tensor([[1, 0], [8, 1], [2, 3], [9, 4], [4, 1]]))
    pairs = pairs.partners(indices, torch.zeros(4, 0), (), size=10)
    assert pairs.has_partner.tolist() == [True, False, True, True]
    assert everyone(pairs.sharing, 0, 2) == [2, 3]
    assert everyone(pairs.sharing, 2, 1) == [0]


def test_read_from_files(tmp_path):
    np.save(tmp_path / "labels.npy", np.array([3, 3, -1], np.int16))
    np.save(tmp_path / "pairs.npy", np.array([[0, 2]], np.uint8))
    indices = torch.arange(3)
    of_groups = Groups(str(tmp_path / "labels.npy")).partners(indices, torch.zeros(3, 0), ())
    of_pairs = IndexPairs(str(tmp_path / "pairs.npy")).partners(indices, torch.zeros(3, 0), ())
    assert of_groups.has_partner.tolist() == [True, True, False]
    assert of_pairs.has_partner.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SharedFactors([]), "^name one factor or more that are to be shared$"),
        (lambda: Groups(torch.tensor([0.5])), r"^labels must be integers \[N\], got float32 \[1\]$"),
        (lambda: Groups(torch.zeros(2, 2).long()), r"^labels must be integers \[N\], got int64 \[2, 2\]$"),
        (lambda: IndexPairs(torch.zeros(2, 3).long()), r"^pairs must be integers \[P, 2\], got int64 \[2, 3\]$"),
        (lambda: IndexPairs(torch.tensor([[0, -1]])), "^pairs hold the index -1; indices start at 0$"),
        (lambda: IndexPairs(torch.tensor([[0, 1], [5, 5]])), "^pairs hold datum 5 with itself; that is no pair$"),
    ],
)
def test_what_is_no_sharing(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_fit_the_data():
    indices, factors = torch.arange(4), torch.zeros(4, 1).long()
    for labels in ([0, 0, 0], [0, 0, 0, 1, 1]):  # of fewer data, or of another set
        message = f"^there are {len(labels)} labels of groups for 4 data: give one for each$"
        with pytest.raises(ValueError, match=message):
            Groups(torch.tensor(labels)).partners(indices, factors, ("yaw",))
        assert Groups(torch.tensor([*labels, 2, 2])).partners(indices, factors, ("yaw",), size=len(labels) + 2)
    listed = IndexPairs(torch.tensor([[0, 1], [3, 4]]))
    with pytest.raises(ValueError, match="^pairs hold the index 4, but there are 4 data$"):
        listed.partners(indices, factors, ("yaw",))
    assert listed.partners(indices, factors, ("yaw",), size=5).has_partner.tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="^the data have no factor 'pitch'; they have: 'yaw'$"):
        SharedFactors(["pitch"]).partners(indices, factors, ("yaw",))
    with pytest.raises(ValueError, match="^the data have no factor 'pitch'; they have: none$"):
        SharedFactors(["pitch"]).partners(indices, factors[:, :0], ())


def test_bad_files(tmp_path):
    path = tmp_path / "labels.npy"
    with pytest.raises(FileNotFoundError) as missing:
        Groups(str(path))
    assert str(missing.value) == f"no file of labels at '{path}': put an .npy file with integers [N] there"
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match=rf"^labels in '{path}' must be integers \[N\], got float64 \[3\]$"):
        Groups(str(path))
    huge = BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<i8", "fortran_order": False, "shape": (10**13,)})
    for content in (b"", b"text", b"\x93NUMPY", huge.getvalue() + bytes(80)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^'{path}' cannot be read as an .npy file with labels, integers"):
            Groups(str(path))
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"an .npy file with labels, integers \[N\]: it holds Python objects"):
        Groups(str(path))
    np.save(path, np.array([0, 2**63], np.uint64))
    with pytest.raises(ValueError, match="must be integers below 2"):
        Groups(str(path))


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: np.array(v, np.uint16), torch.tensor, "str", Path])
def test_labels_and_pairs_as_users_have_them(kind, tmp_path):
    labels, pairs = [3, 3, 0, 3, 0], [[0, 1], [3, 2]]
    if kind in ("str", Path):
        for name, values in (("labels", labels), ("pairs", pairs)):
            np.save(tmp_path / f"{name}.npy", np.array(values))
        make = str if kind == "str" else Path
        groups, listed = Groups(make(tmp_path / "labels.npy")), IndexPairs(make(tmp_path / "pairs.npy"))
    else:
        groups, listed = Groups(kind(labels)), IndexPairs(kind(pairs))
    assert groups.labels.equal(torch.tensor(labels))
    assert listed.pairs.equal(torch.tensor(pairs))


@pytest.mark.parametrize("names", ["pitch", ("pitch",), ["pitch"], np.array(["pitch"])])
def test_names_of_factors_as_users_have_them(names):
    assert SharedFactors(names).names == ("pitch",)
    assert Pairing({"pose": names, "rest": []}).sharing["pose"].names == ("pitch",)


def test_several_names_in_an_array():
    sharing = Pairing({"pose": np.array(["yaw", "pitch"]), "rest": np.array([])}).sharing
    assert list(sharing) == ["pose"]
    assert sharing["pose"].names == ("yaw", "pitch")


def test_labels_that_are_no_integers():
    for labels in (["anna", "ben"], [0.0, 1.0], [[0], [1, 2]], None, 3, [True, False]):
        with pytest.raises(ValueError, match=r"^labels must be integers \[N\], got "):
            Groups(labels)


def test_an_archive_in_the_place_of_an_array(tmp_path):
    np.savez(tmp_path / "labels.npz", labels=np.arange(3))
    with pytest.raises(
        ValueError, match=r"cannot be read as an \.npy file with labels, integers \[N\]: the magic string"
    ):
        Groups(tmp_path / "labels.npz")
