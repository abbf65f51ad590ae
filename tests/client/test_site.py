"""Who a site is: site.yaml, its images, and a deployed site in a whole federation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flwr.app import Context, RecordDict
from PIL import Image

from client.app import app
from client.egress import Gate
from client.site import Site, open_deployed, open_site
from client.site_file import read_site_file
from client.store import SiteStore
from server.job import travelling
from server.local_grid import LocalGrid
from socket_core.config import Experiment, load_experiment, parse_experiment
from socket_core.data.catalogue import split_task
from socket_core.errors import ConfigError, DataError
from tests.client.builders import Deployment, write_images
from tests.core.disk_builders import grey, rotated
from tests.server.builders import Bench, World, experiment_with, raw_with, tree


@pytest.fixture
def key(world: World) -> Path:
    """The owner's public key."""
    return world.home / "keys" / "owner.pub.pem"


@pytest.fixture
def deployed(tmp_path: Path, key: Path) -> Deployment:
    """A sound site."""
    return Deployment(tmp_path / "site", key)


def test_a_site_is_what_its_file_says(deployed: Deployment) -> None:
    site = open_deployed(deployed.path)
    assert (site.name, site.modality) == ("north-roof", "depth")
    holdings = site.load(experiment_with())
    assert (len(holdings.data.tr), len(holdings.data.ti)) == (8, 6)
    assert holdings.reporting is None
    assert holdings.transductive is None
    journal = deployed.folder / "home" / "egress.sqlite"
    assert site.gate == Gate("north-roof", journal, translator=True)
    assert not site.simulated
    assert (deployed.folder / "home").stat().st_mode & 0o077 == 0


def test_relative_paths_start_at_the_file_whatever_the_working_directory(
    deployed: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = read_site_file(deployed.path)
    deployed.raw |= {"tr": "tr", "ti_rgb": "./ti/rgb", "home": "home"}
    deployed.write()
    monkeypatch.chdir(tmp_path)
    assert read_site_file(deployed.path) == absolute
    assert read_site_file(Path(os.path.relpath(deployed.path))) == absolute
    assert open_deployed(deployed.path).store.home == deployed.folder / "home"


def test_an_unknown_key_is_answered_with_the_nearest_known_one(deployed: Deployment) -> None:
    deployed.raw["owner_kay"] = "x"
    deployed.write()
    with pytest.raises(ConfigError, match="did you mean 'owner_key'"):
        open_deployed(deployed.path)


def test_images_are_resized_to_the_experiment(deployed: Deployment) -> None:
    holdings = open_deployed(deployed.path).load(experiment_with(data__size=32))
    assert holdings.data.tr.pixels.shape == (8, 32, 32)
    assert holdings.data.ti.rgb.pixels.shape == (6, 32, 32, 3)


def test_depth_with_rotated_bits_is_read_as_measured(deployed: Deployment) -> None:
    for path in [*deployed.folder.glob("tr/**/*.png"), *deployed.folder.glob("ti/depth/*.png")]:
        grey(path, rotated(np.full((48, 48), 2501, np.uint16)))
    deployed.raw |= {"rotated": True, "full_scale": 10000}
    deployed.write()
    holdings = open_deployed(deployed.path).load(experiment_with())
    assert {int(value) for value in np.unique(holdings.data.tr.pixels)} == {2501}
    assert {int(value) for value in np.unique(holdings.data.ti.target.pixels)} == {2501}


def test_halves_are_paired_by_name_whatever_their_ending(deployed: Deployment) -> None:
    folder = deployed.folder / "ti" / "rgb"
    for path in sorted(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    before = open_deployed(deployed.path).load(experiment_with()).data.ti
    assert len(before) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tri": "/data"}, "tri"),
        ({"policy": {"max_round": 3}}, "policy.max_round"),
        ({"policy": {"methods": ["magic"]}}, "policy.methods"),
        ({"name": "../north"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": ""}, "name"),
        ({"modality": "sonar"}, "modality"),
        ({"full_scale": 0}, "full_scale"),
        ({"tr": None}, "tr"),
    ],
)
def test_a_wrong_key_is_named_with_the_file(deployed: Deployment, change: dict[str, Any], message: str) -> None:
    deployed.raw |= change
    deployed.write()
    with pytest.raises(ConfigError, match=message) as caught:
        read_site_file(deployed.path)
    assert caught.value.where == str(deployed.path)
    assert caught.value.remedy


@pytest.mark.parametrize("missing", ["name", "owner_key", "home", "tr", "ti_rgb", "ti_target"])
def test_a_missing_key_is_named(deployed: Deployment, missing: str) -> None:
    del deployed.raw[missing]
    deployed.write()
    with pytest.raises(ConfigError, match=missing):
        read_site_file(deployed.path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "a: [", "a: 'b"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"site\.yaml"):
        read_site_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read it"):
        read_site_file(tmp_path / "absent.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"name: \xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"site\.yaml"):
        read_site_file(path)


@pytest.mark.parametrize("half", ["rgb", "depth"])
def test_a_missing_half_of_a_pair_names_the_file_that_is_alone(deployed: Deployment, half: str) -> None:
    other = "depth" if half == "rgb" else "rgb"
    (deployed.folder / "ti" / half / "003.png").unlink()
    with pytest.raises(DataError, match="other half is missing") as caught:
        open_deployed(deployed.path).load(experiment_with())
    assert caught.value.where == str(deployed.folder / "ti" / other / "003.png")
    assert caught.value.remedy


@pytest.mark.parametrize("key_", ["tr", "ti_rgb", "ti_target"])
@pytest.mark.parametrize("how", ["empty", "absent", "hidden files only"])
def test_a_folder_without_images_is_named(deployed: Deployment, key_: str, how: str) -> None:
    folder = deployed.folder / "nothing"
    if how != "absent":
        folder.mkdir()
    if how == "hidden files only":
        (folder / ".DS_Store").write_text("")
    deployed.raw[key_] = str(folder)
    deployed.write()
    with pytest.raises(DataError, match="no image found") as caught:
        open_deployed(deployed.path).load(experiment_with())
    assert str(folder) in caught.value.where
    assert key_ in caught.value.where
    assert caught.value.remedy


def test_a_file_that_is_no_image_is_named(deployed: Deployment) -> None:
    (deployed.folder / "tr" / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt"):
        open_deployed(deployed.path).load(experiment_with())


def test_a_simulated_site_has_its_share_whatever_its_node_id(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path)
    share = split_task(world.task(), bench.experiment, 3)[1]
    for node in (5, 2**63):
        site = open_site(bench.context(1, node))
        assert site.name == "site-01"
        data = site.load(bench.experiment).data
        assert np.array_equal(data.tr.pixels, share.data.tr.pixels)
        assert np.array_equal(data.ti.target.pixels, share.data.ti.target.pixels)


def test_a_simulated_site_reads_the_pairs_of_the_experiment_that_it_is_asked_for(world: World, tmp_path: Path) -> None:
    bench = Bench(world, tmp_path)
    fewer = raw_with(name="fewer", data__scenes=raw_with()["data"]["scenes"] | {"ti": 12})
    (tmp_path / "fewer.yaml").write_text(yaml.safe_dump(fewer), encoding="utf-8")
    context = bench.context(0, 5)
    context.run_config["config"] = f"{bench.config},{tmp_path / 'fewer.yaml'}"
    site = open_site(context)
    asked = parse_experiment(fewer, where="tests")
    moved = asked.model_copy(update={"data": asked.data.model_copy(update={"root": "/owner/only"})})
    assert [len(site.load(e).data.ti) for e in (bench.experiment, asked, moved)] == [7, 4, 4]


def _opened(bench: Bench, folder: Path, **files: dict[str, Any]) -> tuple[Site, dict[str, Experiment]]:
    """A simulated site of a run of these files, and the experiments as the owner's requests name them."""
    paths = []
    for name, section in files.items():
        paths.append(folder / f"{name}.yaml")
        raw = raw_with(name=name)
        raw["data"] |= section
        paths[-1].write_text(yaml.safe_dump(raw), encoding="utf-8")
    context = bench.context(0, 5)
    context.run_config["config"] = ",".join(map(str, paths))
    return open_site(context), {path.stem: travelling(load_experiment(path)) for path in paths}


def test_a_simulated_site_refuses_data_that_no_file_of_its_run_has(world: World, tmp_path: Path) -> None:
    site, asked = _opened(Bench(world, tmp_path), tmp_path, one={}, two={"ti_fraction": 0.5})
    for experiment in asked.values():
        site.load(experiment)
    for change in ({"ti_fraction": 0.25}, {"seed": 1}, {"size": 52}, {"ti_from": "scenes"}):
        data = asked["one"].data.model_copy(update=change)
        with pytest.raises(ConfigError, match="no experiment of this run has these data") as caught:
            site.load(asked["one"].model_copy(update={"data": data}))
        assert (caught.value.where, caught.value.remedy) == ("data", "give its file in config")


def test_files_that_differ_in_data_alone_are_told_apart(world: World, tmp_path: Path) -> None:
    files = {"all": {}, "half": {"ti_fraction": 0.5}, "few": {"ti_fraction": 0.3}}
    site, asked = _opened(Bench(world, tmp_path), tmp_path, **files)
    assert {name: len(site.load(e).data.ti) for name, e in asked.items()} == {"all": 7, "half": 4, "few": 2}


def test_files_that_differ_in_a_folder_alone_are_told_apart_by_name(world: World, tmp_path: Path) -> None:
    # Regression: folders do not travel, and the first file's pairs were taken for both.
    for folder, count in (("a", 6), ("b", 9)):
        write_images(tmp_path / folder / "train" / "rgb" / "gym", count, "rgb")
        write_images(tmp_path / folder / "train" / "depth" / "gym", count, "depth")
    files = {name: {"ti_from": "folder", "ti_root": str(tmp_path / name)} for name in ("a", "b")}
    site, asked = _opened(Bench(world, tmp_path), tmp_path, **files)
    assert {name: len(site.load(e).data.ti) for name, e in asked.items()} == {"a": 2, "b": 3}
    with pytest.raises(ConfigError, match="in different folders") as caught:
        site.load(asked["a"].model_copy(update={"name": "c"}))
    assert caught.value.remedy == "give each its own name"


@pytest.mark.parametrize("node_config", [{}, {"partition-id": 0}, {"num-partitions": 3}, {"site": "north"}])
def test_a_node_without_an_identity_is_told_how_to_get_one(node_config: dict[str, Any]) -> None:
    context = Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config={})
    with pytest.raises(ConfigError, match="site-config") as caught:
        open_site(context)
    assert caught.value.where == "--node-config"


# --- in a federation


def test_deployed_sites_complete_a_federation_under_their_own_names(world: World, tmp_path: Path, key: Path) -> None:
    bench = Bench(world, tmp_path / "owner", federation__sites=2, federation__steps=1)
    sites = {
        7: Deployment(tmp_path / "a", key, "north-roof", seed=10),
        3: Deployment(tmp_path / "b", key, "south.gate", seed=20),
    }
    before = {node: tree(d.folder) for node, d in sites.items()}
    state = bench.run(LocalGrid(app, {node: d.context(node) for node, d in sites.items()}))
    assert [(r["sites"], r["examples"], r["refused"]) for r in bench.records()] == [
        (["north-roof", "south.gate"], [8, 8], {})
    ] * 2
    assert all(r["held_out"] == {} and r["transductive"] == {} for r in bench.records()), "counts may not leave"
    for node, site in sites.items():
        home = site.folder / "home"
        assert (home / "releases" / bench.release.info.digest).is_dir()
        assert SiteStore(home).load_batchnorm(state.experiment, 2) is not None
        assert (home / "egress.sqlite").is_file()
        outside = {name: data for name, data in tree(site.folder).items() if not name.startswith("home/")}
        assert outside == before[node], "a site writes into its home only"


def test_a_deployed_site_whose_policy_forbids_the_run_is_left_out(world: World, tmp_path: Path, key: Path) -> None:
    bench = Bench(world, tmp_path / "owner", federation__sites=3, federation__rounds=1, federation__steps=1)
    sites = {
        1: Deployment(tmp_path / "a", key, "a"),
        2: Deployment(tmp_path / "b", key, "b", policy={"methods": ["shot"]}),
        3: Deployment(tmp_path / "c", key, "c"),
    }
    (sites[3].folder / "ti" / "rgb" / "000.png").unlink()
    contexts = {node: d.context(node) for node, d in sites.items()}
    contexts[4] = Deployment(tmp_path / "d", key, "d").context(4)
    bench.run(LocalGrid(app, contexts))
    [record] = bench.records()
    assert record["sites"] == ["a", "d"]
    assert record["refused"] == {"b": "refused: policy", "c": "refused: data"}
