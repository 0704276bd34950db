"""Bytes without a row are deleted once they are old; bytes with one never are."""

import os
import time
from pathlib import Path
from uuid import UUID

import pytest

from pingvas import db, ids, storage
from pingvas.errors import Unavailable
from pingvas.gallery import pictures
from pingvas.gallery.models import Image
from pingvas.jobs import lifecycle, submit
from pingvas.jobs.submit import Order
from pingvas.settings import Settings
from pingvas.storage import LocalStore
from pingvas.upkeep import orphans
from tests.chaos.test_books import PICTURE
from tests.jobs.customers import customer

pytestmark = pytest.mark.usefixtures("clean_db")

DAYS = 2 * 86_400


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path)
    monkeypatch.setattr(storage, "default", lambda: made)
    return made


@pytest.fixture
def user_id() -> UUID:
    return customer("free")


def let_age(folder: Path, seconds: float = DAYS) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds, time.time() - seconds))


def delivered(user_id: UUID) -> pictures.Stored:
    held = lifecycle.claim(submit.submit(user_id, "free", Order("a red circle")).job_id, "worker")
    assert held is not None
    stored = pictures.store(user_id, ids.new(), PICTURE)
    lifecycle.complete(held, [stored], 1.0)
    return stored


def walk(page: int = orphans.PAGE) -> list[orphans.Page]:
    pages = [orphans.collect(page)]
    while not pages[-1].last:
        pages.append(orphans.collect(page))
    return pages


@pytest.mark.parametrize("page", [2, orphans.PAGE])
def test_only_old_bytes_without_a_row_go(user_id: UUID, store: LocalStore, tmp_path: Path, page: int) -> None:
    kept, orphan = delivered(user_id), pictures.store(user_id, ids.new(), PICTURE)
    store.put("images/not-a-picture/readme.txt", b"an operator's", "text/plain")
    let_age(tmp_path)
    young = pictures.store(user_id, ids.new(), PICTURE)
    assert sum(found.deleted for found in walk(page)) == 3
    assert sum(found.deleted for found in walk(page)) == 0
    assert store.exists(pictures.original_key(user_id, kept.id))
    assert store.exists(pictures.original_key(user_id, young.id))
    assert not store.exists(pictures.original_key(user_id, orphan.id))
    assert store.exists("images/not-a-picture/readme.txt")


def test_what_is_half_written_goes_when_it_is_old(tmp_path: Path) -> None:
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / "torn.part").write_bytes(b"half")
    assert orphans.tidy() == 0
    let_age(tmp_path)
    assert orphans.tidy() == 1


def test_bytes_of_a_deleted_row_go(user_id: UUID, store: LocalStore, tmp_path: Path) -> None:
    image = delivered(user_id)
    let_age(tmp_path)
    assert walk()[-1].deleted == 0
    with db.transaction() as session:
        session.delete(session.get_one(Image, image.id))
    assert walk()[-1].deleted == 3
    assert list(store.keys("images/")) == []


def test_a_walk_goes_on_where_the_last_run_stood(user_id: UUID, tmp_path: Path) -> None:
    for _ in range(3):
        pictures.store(user_id, ids.new(), PICTURE)
    let_age(tmp_path)
    assert orphans.collect(4) == orphans.Page(4, 4, last=False)
    assert orphans.collect(4) == orphans.Page(4, 4, last=False)
    assert orphans.collect(4) == orphans.Page(1, 1, last=True)
    assert orphans.collect(4) == orphans.Page(0, 0, last=True)


def test_how_old_is_a_setting(user_id: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.store(user_id, ids.new(), PICTURE)
    let_age(tmp_path, 100)
    config = Settings(orphan_seconds=200)
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    assert walk()[-1].deleted == 0
    let_age(tmp_path, 201)
    assert walk()[-1].deleted == 3


def test_a_store_that_is_away_loses_no_place(user_id: UUID, store: LocalStore, tmp_path: Path) -> None:
    pictures.store(user_id, ids.new(), PICTURE)
    let_age(tmp_path)
    orphans.collect(1)
    mode = (tmp_path / "images").rename(tmp_path / "away")
    (tmp_path / "images").symlink_to(tmp_path / "images")  # a loop: neither there nor absent
    with pytest.raises(Unavailable):
        orphans.collect(1)
    (tmp_path / "images").unlink()
    mode.rename(tmp_path / "images")
    assert [page.seen for page in walk()] == [2]


def test_a_key_names_its_picture() -> None:
    image_id = ids.new()
    match = orphans._KEY.fullmatch(pictures.thumbnail_key(ids.new(), image_id, 256))
    assert match is not None
    assert match[1] == str(image_id)
