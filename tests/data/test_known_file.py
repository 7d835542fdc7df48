"""Files of known data sets: fetched where missing, and compared with their checksums."""

import hashlib

import pytest

from pyro_hfvae.data import BasicMotions
from pyro_hfvae.data.known_file import KnownFile

CONTENT = b"@classLabel true u d\n@data\n1,2:u\n3,1:d\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A file that its address has; the address is a file itself, in another folder."""
    monkeypatch.setenv("PYRO_HFVAE_DATA", str(tmp_path / "root"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.ts").write_bytes(CONTENT)

    def retrieve(url, known_hash, fname, path):
        content = (tmp_path / "source" / url.rpartition("/")[2]).read_bytes()
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != known_hash:
            raise ValueError("SHA256 hash of downloaded file does not match the known hash")
        (path / fname).write_bytes(content)

    monkeypatch.setattr("pyro_hfvae.data.known_file.pooch.retrieve", retrieve)
    return KnownFile("sets/a.ts", DIGEST, "https://example.org/a.ts")


def test_fetched_once_and_verified(known, tmp_path):
    with pytest.raises(FileNotFoundError, match="^no file at '.*sets/a.ts'$"):
        known.verify()
    known.fetch()
    known.verify()
    assert known.file == tmp_path / "root" / "sets" / "a.ts"
    assert [path.name for path in known.file.parent.iterdir()] == ["a.ts"]
    (tmp_path / "source" / "a.ts").unlink()
    known.fetch()  # it is there


def test_other_contents(known, tmp_path):
    (tmp_path / "source" / "a.ts").write_bytes(b"other")
    with pytest.raises(
        ValueError, match="^the download of https://example.org/a.ts is not kept: its SHA-256 is another"
    ):
        known.fetch()
    assert not known.file.exists()
    known.file.write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"sets/a.ts' has the SHA-256 [0-9a-f]*, expected {DIGEST}: it is damaged"):
        known.verify()


def test_no_address_and_no_network(known, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="^no file at '.*b.ts', and no address to download it from: put it there"
    ):
        KnownFile("sets/b.ts", DIGEST).fetch()
    (tmp_path / "source" / "a.ts").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^no file at '.*a.ts', and no download from https://example.org/a.ts \("
    ):
        known.fetch()


def test_sets_of_series(known, monkeypatch):
    other = KnownFile("sets/b.ts", DIGEST, known.address)
    monkeypatch.setattr(BasicMotions, "files", (known, other))
    data = BasicMotions()
    assert (len(data), data.shape, data.held_out.tolist()) == (4, (2, 1), [2, 3])
    assert data.factor_labels == {"class": ("d", "u")}
