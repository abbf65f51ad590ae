"""The common layout: indexing, pairing, and the task made from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from socket_core.data.decode import decode_many
from socket_core.errors import ConfigError, DataError
from tests.core.load_folder import index_folder, load_folder, pair_entries

SCENES = Path(__file__).resolve().parents[2].parent / "shared/data/nyuv2_scenes"


def _write(root: Path, split: str, label: str, name: str, value: int) -> None:
    """One view: flat colour as PNG, flat 16-bit depth ``100 * value``."""
    for modality in ("rgb", "depth"):
        (root / split / modality / label).mkdir(parents=True, exist_ok=True)
    colour = np.full((6, 8, 3), value, np.uint8)
    Image.fromarray(colour).save(root / split / "rgb" / label / f"{name}.png")
    Image.fromarray(np.full((6, 8), 100 * value, np.uint16)).save(root / split / "depth" / label / f"{name}.tif")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes a, b (task) with 8 train and 2 test views, c, d (others) with 3; every view has its own value."""
    value = 0
    for label, train, test in (("a", 8, 2), ("b", 8, 2), ("c", 3, 1), ("d", 3, 0)):
        for split, count in (("train", train), ("test", test)):
            for i in range(count):
                value += 1
                _write(tmp_path / "set", split, label, f"{i:02}", value)
    return tmp_path / "set"


def test_index_is_sorted_and_ignores_hidden(root: Path) -> None:
    (root / "train/rgb/.hidden").mkdir()
    (root / "train/rgb/a/.DS_Store").touch()
    entries = index_folder(root, "train", "rgb")
    assert [e.view for e in entries] == sorted(e.view for e in entries)
    assert len(entries) == 22
    assert (entries[0].id, entries[0].label, entries[0].path) == ("00", "a", root / "train/rgb/a/00.png")


def test_missing_folders_name_what_exists(root: Path) -> None:
    with pytest.raises(DataError, match="split folder 'val', found test, train"):
        index_folder(root, "val", "rgb")
    with pytest.raises(DataError, match="modality folder 'nir', found depth, rgb"):
        index_folder(root, "train", "nir")
    with pytest.raises(DataError, match="found no folders"):
        index_folder(root / "absent", "train", "rgb")


def test_stray_files_are_refused(root: Path) -> None:
    stray = root / "train/rgb/a/Thumbs.db"
    stray.touch()
    with pytest.raises(DataError, match=r"Thumbs\.db"):
        index_folder(root, "train", "rgb")
    stray.unlink()
    (root / "train/rgb/a/inner").mkdir()
    with pytest.raises(DataError, match="inner: expected an image file"):
        index_folder(root, "train", "rgb")
    (root / "train/depth/loose.png").touch()
    with pytest.raises(DataError, match=r"loose\.png: expected class folders"):
        index_folder(root, "train", "depth")


def test_two_files_of_one_id_and_empty_class(root: Path) -> None:
    twin = root / "train/rgb/a/00.jpg"
    twin.touch()
    with pytest.raises(DataError, match=r"found 00\.jpg and 00\.png"):
        index_folder(root, "train", "rgb")
    twin.unlink()
    (root / "train/rgb/hollow").mkdir()
    with pytest.raises(DataError, match="hollow: expected images of the class"):
        index_folder(root, "train", "rgb")


def test_pairs_match_and_name_a_missing_half(root: Path) -> None:
    rgb, depth = index_folder(root, "train", "rgb"), index_folder(root, "train", "depth")
    pairs = pair_entries(rgb, depth[::-1])
    assert all(one.view == two.view for one, two in pairs)
    assert len(pairs) == 22
    with pytest.raises(DataError, match=r"rgb/a/00\.png: expected a target image .*'a' and id '00'.*1 images"):
        pair_entries(rgb, depth[1:])
    with pytest.raises(DataError, match=r"depth/d/02\.tif: expected a colour image"):
        pair_entries(rgb[:-1], depth, names=("colour", "target"))


def test_task_of_a_folder(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    task = load_folder(
        root, size=4, modality="depth", classes=("b", "a"), full_scale=10000, progress=lambda *done: calls.append(done)
    )
    assert [len(x) for x in (task.source_train, task.source_test, task.target_train, task.target_test, task.ti)] == [
        16, 4, 16, 4, 6,
    ]  # fmt: skip
    assert calls[0] == (1, 52)
    assert calls[-1] == (52, 52)
    np.testing.assert_array_equal(task.source_train.labels, [1] * 8 + [0] * 8)  # files by name, labels by `classes`
    rgb, depth = task.ti.rgb.pixels[:, 0, 0, 0], task.ti.target.pixels[:, 0, 0]
    np.testing.assert_array_equal(rgb.astype(int) * 100, depth)
    assert (task.source_train.images.full_scale, task.target_train.images.full_scale) == (255, 10000)
    assert task.target_train.images.pixels.dtype == np.uint16


def test_partners_are_of_the_same_view_or_none(root: Path) -> None:
    (root / "test/rgb/a/00.png").unlink()
    (root / "test/depth/b/01.tif").unlink()
    task = load_folder(root, size=6, modality="depth", classes=("a", "b"), full_scale=10000.0)
    assert task.partners is not None
    # Target: a/00, a/01, b/00; RGB: a/01, b/00, b/01. Depth of a view is 100 times its colour.
    assert task.partners.tolist() == [-1, 0, 1]
    rgb, target = task.source_test.images.pixels, task.target_test.images.pixels
    for i in (1, 2):
        assert target[i, 0, 0] == 100 * int(rgb[task.partners[i], 0, 0, 0])


def test_ti_classes_and_splits(root: Path) -> None:
    def count(ti_classes: tuple[str, ...] | None, ti_splits: tuple[str, ...]) -> int:
        task = load_folder(
            root, size=4, modality="depth", classes=("a", "b"), full_scale=1, ti_classes=ti_classes, ti_splits=ti_splits
        )
        return len(task.ti)

    assert count(None, ("train", "test")) == 7  # class d is not in the test split
    assert count(("c",), ("train",)) == 3
    assert count(("c",), ("test", "test")) == 1


def test_no_view_at_both_sides(root: Path) -> None:
    task = load_folder(root, size=4, modality="depth", classes=("a", "b"), full_scale=1, source_fraction=0.25)
    owner = set(task.source_train.images.pixels[:, 0, 0, 0].astype(int))
    sites = set(task.target_train.images.pixels[:, 0, 0].astype(int) // 100)
    assert (len(owner), len(sites)) == (4, 12)
    assert not owner & sites
    np.testing.assert_array_equal(np.bincount(task.source_train.labels), [2, 2])


def test_validation_leaves_the_test_split_closed(root: Path) -> None:
    for path in (root / "test").rglob("*.*"):
        path.write_text("must not be opened")
    task = load_folder(
        root, size=4, modality="depth", classes=("a", "b"), full_scale=1, validation=0.25, source_fraction=0.5
    )
    values = [
        set(part.images.pixels.reshape(len(part), -1)[:, 0].astype(int) // scale)
        for part, scale in ((task.source_train, 1), (task.target_train, 100), (task.source_test, 1))
    ]
    assert [len(part) for part in values] == [6, 6, 4]
    assert len(set.union(*values)) == 16
    np.testing.assert_array_equal(
        task.source_test.images.pixels[:, 0, 0, 0].astype(int) * 100, task.target_test.images.pixels[:, 0, 0]
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"classes": ("a", "kitchn")}, "class 'kitchn', found none; the nearest is "),
        ({"ti_classes": ("c", "dd")}, "class 'dd', found none; the nearest is 'd'"),
        ({"classes": ("a", "b", "d")}, "test .rgb.: expected images of class 'd'"),
        ({"classes": ("a", "b", "c"), "ti_splits": ("test",)}, "classes outside the task"),
        ({"full_scale": None}, r"data\.full_scale"),
    ],
)
def test_data_errors(root: Path, options: dict[str, object], match: str) -> None:
    arguments = {"size": 4, "modality": "depth", "classes": ("a", "b"), "full_scale": 1.0} | options
    with pytest.raises(DataError, match=match):
        load_folder(root, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ti_classes": ("a", "c")}, r"data\.ti_classes: .*found a in both"),
        ({"classes": ()}, r"data\.classes"),
        ({"classes": ("a", "a")}, r"data\.classes"),
        ({"source_fraction": 0.0}, r"data\.source_fraction"),
        ({"validation": 1.0}, "validation"),
    ],
)
def test_config_errors(root: Path, options: dict[str, object], match: str) -> None:
    arguments = {"size": 4, "modality": "depth", "classes": ("a", "b"), "full_scale": 1.0} | options
    with pytest.raises(ConfigError, match=match):
        load_folder(root, **arguments)  # type: ignore[arg-type]


def test_misfitting_pairs_and_bit_depths(root: Path) -> None:
    odd = root / "train/depth/c/00.tif"
    Image.fromarray(np.full((6, 7), 1, np.uint16)).save(odd)
    with pytest.raises(DataError, match=r"c/00\.png and .*c/00\.tif: .*8x6 and 7x6"):
        load_folder(root, size=4, modality="depth", classes=("a", "b"), full_scale=1)
    odd.unlink()
    with pytest.raises(DataError, match=r"c/00\.png: expected a target image"):
        load_folder(root, size=4, modality="depth", classes=("a", "b"), full_scale=1)
    for path in sorted((root / "train/depth").glob("[cd]/*")):
        path.unlink()
    for path in sorted((root / "train/rgb").glob("[cd]/*")):
        Image.fromarray(np.ones((6, 8), np.uint8)).save(root / "train/depth" / path.parent.name / path.name)
    with pytest.raises(DataError, match="one bit depth in all target images, found uint16 and uint8"):
        load_folder(root, size=4, modality="depth", classes=("a", "b"), full_scale=1)


def test_real_scenes(tmp_path: Path) -> None:
    if not SCENES.is_dir():
        pytest.skip(f"the NYU Depth V2 scenes are not at {SCENES}")
    classes = ("bedroom", "kitchen", "living_room", "bathroom", "dining_room")
    task = load_folder(
        SCENES, size=16, modality="depth", classes=classes, ti_splits=("train", "test"), cache=tmp_path / "cache"
    )
    assert (len(task.source_train), len(task.target_train)) == (550, 550)
    assert (len(task.source_test), len(task.target_test), len(task.ti)) == (517, 517, 382)
    np.testing.assert_array_equal(np.bincount(task.target_train.labels), [192, 119, 114, 63, 62])
    np.testing.assert_array_equal(np.bincount(task.target_test.labels), [191, 106, 107, 58, 55])
    assert task.ti.target.pixels.dtype == np.uint8
    assert task.ti.target.full_scale == 255


def test_real_scenes_come_in_the_order_of_their_names_as_they_are_on_disk() -> None:
    if not SCENES.is_dir():
        pytest.skip(f"the NYU Depth V2 scenes are not at {SCENES}")
    task = load_folder(SCENES, size=16, modality="depth", classes=("kitchen", "bathroom"), ti_classes=("bedroom",))
    for images, part, modality, labels in (
        (task.source_train.images, "train/rgb", "rgb", ("bathroom", "kitchen")),
        (task.target_test.images, "test/depth", "depth", ("bathroom", "kitchen")),
        (task.ti.rgb, "train/rgb", "rgb", ("bedroom",)),
        (task.ti.target, "train/depth", "depth", ("bedroom",)),
    ):
        files = [path for label in labels for path in sorted((SCENES / part / label).iterdir())]
        np.testing.assert_array_equal(images.pixels, decode_many(files, "rgb" if modality == "rgb" else "depth", 16))
