"""Files and folders that are written whole or not at all."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eagleray.errors import InputError
from eagleray.files import atomic_folder, check_target, write_atomic


def contents(folder):
    """Everything below a folder, as relative path -> bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_block_that_ends_well_makes_the_folder_and_its_parents(tmp_path):
    target = tmp_path / "a" / "b"
    with atomic_folder(target) as work:
        (work / "x.txt").write_text("new")
        assert not target.exists()
        assert work.parent == target.parent
    assert contents(tmp_path) == {"a/b/x.txt": b"new"}
    assert target.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in target.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existing", [False, True])
def test_a_block_that_raises_leaves_everything_as_it_was(tmp_path, existing, interruption):
    target = tmp_path / "out"
    if existing:
        target.mkdir()
        (target / "posterior.json").write_text("old")
    before = contents(tmp_path), sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(interruption), atomic_folder(target, overwrite=existing) as work:  # noqa: PT012
        (work / "half.txt").write_text("half")
        raise interruption
    assert (contents(tmp_path), sorted(p.name for p in tmp_path.iterdir())) == before


def test_overwriting_replaces_the_whole_folder(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "posterior.json").write_text("old")
    with atomic_folder(target, overwrite=True) as work:
        (work / "new.txt").write_text("new")
        assert contents(target) == {"posterior.json": b"old"}
    assert contents(tmp_path) == {"out/new.txt": b"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_is_refused_before_the_block_runs(tmp_path):
    with pytest.raises(InputError, match="exists; choose another with --out or pass --overwrite"):
        with atomic_folder(tmp_path):
            pytest.fail("the block ran")


def test_files_in_the_way_are_refused(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="must be a folder, got the file"):
            check_target(blocker, overwrite=overwrite)
    with pytest.raises(InputError, match="cannot write to .*choose another output folder"):
        with atomic_folder(blocker / "below"):
            pytest.fail("the block ran")
    assert blocker.read_text() == "mine"


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(InputError, match="exists"), atomic_folder(target) as work:  # noqa: PT012
        (work / "late.txt").write_text("late")
        target.mkdir()
        (target / "first.txt").write_text("first")
    assert contents(tmp_path) == {"out/first.txt": b"first"}


def test_a_link_to_a_folder_can_be_overwritten(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    target = tmp_path / "link"
    target.symlink_to(real)
    with atomic_folder(target, overwrite=True) as work:
        (work / "new.txt").write_text("new")
    assert (target / "new.txt").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "a" / "x.txt"
    assert write_atomic(target, b"old") == target
    write_atomic(target, b"new")
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    monkeypatch.setattr("pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(target, b"newest")
    assert contents(tmp_path) == {"a/x.txt": b"new"}


def current_umask():
    """The process's file mode mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@settings(max_examples=25, deadline=None)
@given(
    files=st.dictionaries(st.text("abcxyz", min_size=1, max_size=8), st.binary(max_size=64), max_size=4),
    fails=st.booleans(),
)
def test_all_or_nothing(tmp_path_factory, files, fails):
    folder = tmp_path_factory.mktemp("any")
    target = folder / "name.with.dots"
    try:
        with atomic_folder(target) as work:
            for name, data in files.items():
                (work / name).write_bytes(data)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert list(folder.iterdir()) == []
    else:
        assert contents(target) == files
        assert [p.name for p in folder.iterdir()] == [target.name]
