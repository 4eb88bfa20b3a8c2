"""The activation store: what is in it, that a kill does not change it, and that nobody trains on a stale one."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from tests.conftest import CHECKOUT, Command, command_line, fresh
from train import devices
from train.checkpoints import Checkpoints, load_network
from train.data import dataset
from train.data.activations import Activations, Store, read_records
from train.data.order import batch_indices
from train.data.transforms import normalise
from train.errors import UserError
from train.features import extraction, of_run
from train.loop import train
from train.run import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5 on sixty noisy images, hardly trained."""
    from tests.conftest import config as fixture

    folder = tmp_path_factory.mktemp("features")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (90, 16, 16, 1), dtype=np.uint8)
    np.savez(folder / "images.npz", image=images, label=np.arange(90) % 3)
    config = fixture.__wrapped__()  # type: ignore[attr-defined]
    config.model.update(name="lenet5", hidden=None)
    config.dataset.update(source=f"npz:{folder}/images.npz", image_size=32)
    config.train.update(epochs=1.0, batch_size=32)
    config.schedule.warmup_epochs = 0.0
    train(config, folder / "run")
    return folder / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def copied(run: Path, to: Path) -> Path:
    """A run and its images, to be changed."""
    shutil.copytree(run.parent, to)
    return to / "run"


def extract(run: Path, path: Path, **changes: object) -> Store:
    source = f"npz:{run.parent}/images.npz"
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return of_run.extract(RunFolder(run), source, ("S4", "F6"), path, keys)


def test_activations_are_the_networks(run: Path, tmp_path: Path) -> None:
    store = extract(run, tmp_path / "store", evaluate__batch_size=7)
    assert store.layers == {"S4": (5, 5, 16), "F6": (84,)}
    assert store.manifest["splits"] == {"train": 64, "validation": 8, "test": 18}
    folder = RunFolder(run)
    data = dataset.load(fresh(folder.config).dataset)
    graph, params, stats = load_network(folder, devices.make_mesh(1))
    for split, images in data.roles().items():
        seen = normalise(jnp.asarray(images.take(np.arange(images.total)).images), folder.config.dataset)
        stages = dict(nnx.merge(graph, params, stats).stages(seen))
        for layer in store.layers:
            stored = store.activations(split, layer).all()
            np.testing.assert_allclose(stored.images, stages[layer], atol=1e-5)
            np.testing.assert_array_equal(stored.labels, images.labels)
    pixels = np.load(run.parent / "images.npz")["image"]
    records = read_records(store.path, "test")
    assert [record.id for record in records] == data.ids("test")
    assert [record.label for record in records] == [str(label) for label in data.test.labels]
    number = int(records[3].id.removeprefix("train/"))
    resized = data.test.take(np.array([3])).images[0, ..., 0]
    middle = resized[8:24:2, 8:24:2].astype(float)
    assert np.corrcoef(middle.ravel(), pixels[number, 4:12, 4:12, 0].ravel())[0, 1] > 0.5  # scaled, so alike


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_shorter_numbers(run: Path, tmp_path: Path, dtype: str, tolerance: float) -> None:
    exact = extract(run, tmp_path / "float32").load("train", "F6")[0]
    store = extract(run, tmp_path / dtype, transfer__dtype=dtype)
    assert store.activations("train", "F6").shards[0].dtype == jnp.dtype(dtype)
    np.testing.assert_allclose(store.load("train", "F6")[0], exact, rtol=tolerance, atol=tolerance)
    assert np.load(tmp_path / dtype / "train-F6-00000.npy").itemsize == 2


def test_rows_are_taken_across_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_SHARD_ROWS", 8)
    activations = extract(run, tmp_path / "store", evaluate__batch_size=4).activations("train", "F6")
    assert len(activations.shards) == 8
    assert isinstance(activations.shards[0], np.memmap)
    index = np.array([63, 0, 7, 8, 8, 33])
    np.testing.assert_array_equal(activations.take(index).images, activations.all().images[index])
    np.testing.assert_array_equal(activations.take(index).labels, activations.labels[index])


def test_each_epoch_sees_another_view(run: Path, tmp_path: Path) -> None:
    changes = {"transfer__views": 3, "augment__shift": 4}
    activations = extract(run, tmp_path / "store", **changes).activations("train", "F6")
    assert (activations.total, activations.views, activations.rows) == (64, 3, 192)
    views = activations.all().images.reshape(3, 64, 84)
    assert not np.allclose(views[0], views[1])
    for epoch in range(4):
        indices = batch_indices(64, 64, 0, epoch, views=3)
        np.testing.assert_array_equal(np.sort(indices % 64), np.arange(64))
        assert set(indices // 64) == {epoch % 3}
    assert len({*extract(run, tmp_path / "store", **changes).load("train", "F6")[1]}) == 3


def test_a_killed_extraction_goes_on_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    flags = [
        f"--run={run}",
        "--layer=S4,F6",
        "--views=400",
        "--config.augment.shift=4",
        "--config.evaluate.batch_size=8",
    ]
    whole = subprocess.run(
        command_line("extract", *flags, f"--output={tmp_path}/whole"), cwd=CHECKOUT, capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command_line("extract", *flags, f"--output={killed}"), cwd=CHECKOUT, stdout=subprocess.DEVNULL
    )
    while not (killed / "train-F6-00001.npy").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "store.json").exists(), "killed in the middle"
    with pytest.raises(UserError, match="is not finished; run its command again"):
        Store(killed)
    again = subprocess.run(
        command_line("extract", *flags, f"--output={killed}"), cwd=CHECKOUT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "whole") == contents(killed)


def change_a_weight(run: Path) -> None:
    folder = RunFolder(run)
    _, params, stats = load_network(folder, devices.make_mesh(1))
    params["C3"]["bias"] = params["C3"]["bias"].at[2].add(1e-3)
    shutil.rmtree(run / "checkpoints")
    with Checkpoints(run) as checkpoints:
        checkpoints.save_network(params, stats)


def change_an_image(run: Path) -> None:
    arrays = dict(np.load(run.parent / "images.npz"))
    arrays["image"][17] ^= 1
    np.savez(run.parent / "images.npz", **arrays)


def change_a_label(run: Path) -> None:
    arrays = dict(np.load(run.parent / "images.npz"))
    arrays["label"][17] = 0
    np.savez(run.parent / "images.npz", **arrays)


@pytest.mark.parametrize(
    ("change", "changes", "message"),
    [
        (change_a_weight, {}, "are stale: weights: those of C3 are others. Put these back"),
        (None, {"dataset__crop": 0.8}, r"stale: preprocessing: crop was 1.0, is 0.8\. Put these back"),
        (change_an_image, {}, r"data: train/17 has changed"),
        (change_a_label, {}, r"data: the label of train/17 was 2, is 0"),
        (None, {"dataset__image_size": 40, "dataset__crop": 0.8}, "for 32 pixels and 1 channels"),
        (None, {"precision": "bfloat16"}, "network: precision was float32, is bfloat16"),
        (None, {"dataset__validation": 4}, r"data: validation was 0.1, is 4.*; data: train/\d+ was in .*, is in "),
        (None, {"transfer__dtype": "float16"}, "holds activations as float32, not as float16"),
        (None, {"transfer__views": 2, "augment__shift": 1}, "views: .*count was 0, is 2"),
    ],
)
def test_a_stale_store_says_what_has_changed(
    run: Path, tmp_path: Path, change: Callable[[Path], None] | None, changes: dict[str, object], message: str
) -> None:
    own = copied(run, tmp_path / "own")
    extract(own, tmp_path / "store")
    before = contents(tmp_path / "store")
    extract(own, tmp_path / "store")  # of the same, it is opened
    if change is not None:
        change(own)
    with pytest.raises(UserError, match=message):
        extract(own, tmp_path / "store", **changes)
    assert contents(tmp_path / "store") == before


def test_a_store_without_a_part_says_so(run: Path, tmp_path: Path) -> None:
    extract(run, tmp_path / "store", dataset__validation=0.0)
    with pytest.raises(UserError, match=r"stale: data: validation was 0.0, is 0.1; .* Put these back"):
        extract(run, tmp_path / "store")


def test_files_stay_as_few_as_a_process_may_open(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_SHARD_BYTES", 1)
    monkeypatch.setattr(extraction, "_SHARDS", 4)
    store = extract(run, tmp_path / "store")
    assert [len(shard) for shard in store.activations("train", "F6").shards] == [16] * 4


def test_a_store_holds_what_it_holds(run: Path, tmp_path: Path) -> None:
    extract(run, tmp_path / "store")
    with pytest.raises(UserError, match="holds activations of S4, F6, not of C5; choose another folder"):
        of_run.extract(RunFolder(run), None, ("C5",), tmp_path / "store", {})


def test_training_images_are_no_test(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"\d+ of 18 test images are among those that .* was trained on; .*split_seed=0"
    ):
        extract(run, tmp_path / "store", dataset__split_seed=1)
    extract(run, tmp_path / "store", dataset__validation=4)  # what was not learnt from may be divided otherwise


def test_the_precision_is_that_of_the_layers(run: Path, tmp_path: Path) -> None:
    exact = extract(run, tmp_path / "float32").load("test", "F6")[0]
    short = extract(run, tmp_path / "bfloat16", precision="bfloat16").load("test", "F6")[0]
    assert 1e-4 < np.abs(short - exact).max() < 0.1


def test_numbers_that_are_too_large_are_not_stored(run: Path, tmp_path: Path) -> None:
    own = copied(run, tmp_path / "own")
    _, params, stats = load_network(RunFolder(own), devices.make_mesh(1))
    params["C1"]["kernel"] *= 1e6
    shutil.rmtree(own / "checkpoints")
    with Checkpoints(own) as checkpoints:
        checkpoints.save_network(params, stats)
    with pytest.raises(UserError, match="S4 is not finite as float16; store them as bfloat16"):
        extract(own, tmp_path / "store", transfer__dtype="float16")
    extract(own, tmp_path / "another", transfer__dtype="bfloat16")
    params["C1"]["kernel"] *= np.inf
    shutil.rmtree(own / "checkpoints")
    with Checkpoints(own) as checkpoints:
        checkpoints.save_network(params, stats)
    with pytest.raises(UserError, match=r"the checkpoint is of no use \(not finite are C1.kernel\)"):
        extract(own, tmp_path / "third")


def test_a_store_goes_on_with_devices_that_can_share_its_batches(
    run: Path, tmp_path: Path, one_line_error: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(run, tmp_path / "store", evaluate__batch_size=7)
    (tmp_path / "store" / "store.json").rename(tmp_path / "store" / "unfinished.json")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    flags = (f"--run={run}", "--layer=S4,F6", f"--output={tmp_path}/store")
    assert "batches of 7 images, and 2 devices cannot share those" in one_line_error("extract", *flags)


def test_files_are_neither_large_nor_many(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_SHARD_BYTES", 10 * 4 * (5 * 5 * 16 + 84))
    store = extract(run, tmp_path / "bytes")
    assert [len(shard) for shard in store.activations("train", "S4").shards] == [10] * 6 + [4]
    monkeypatch.undo()
    monkeypatch.setattr(extraction, "_SHARD_ROWS", 1)
    monkeypatch.setattr(extraction, "_SHARDS", 4)
    store = extract(run, tmp_path / "files")
    assert [len(shard) for shard in store.activations("train", "S4").shards] == [16] * 4


def begins_with_store(config: ConfigDict, store: Path) -> ConfigDict:
    config = fresh(config, batch_size=32)
    config.model.update(name="lenet5", hidden=None)
    config.dataset.source = f"features:{store}"
    config.augment.rotate = 10.0  # as in an experiment on images: a store has been augmented or not
    return config


def test_a_store_is_a_source(config: ConfigDict, run: Path, tmp_path: Path) -> None:
    own = copied(run, tmp_path / "own")
    extract(own, tmp_path / "store")
    train(begins_with_store(config, tmp_path / "store"), tmp_path / "trained")
    folder = RunFolder(tmp_path / "trained")
    assert folder.config.transfer.frozen_until == "F6"
    assert folder.config.dataset.source == f"npz:{own.parent}/images.npz"
    theirs, ours = (load_network(RunFolder(path), devices.make_mesh(1))[1] for path in (own, tmp_path / "trained"))
    assert bool((theirs["C3"]["kernel"] == ours["C3"]["kernel"]).all())
    change_an_image(own)
    with pytest.raises(UserError, match="data: train/17 has changed"):
        train(begins_with_store(config, tmp_path / "store"), tmp_path / "again")
    (own.parent / "images.npz").unlink()  # a store may be where its photos are not
    train(begins_with_store(config, tmp_path / "store"), tmp_path / "alone")
    change_a_weight(own)
    with pytest.raises(UserError, match="weights: those of C3 are others"):
        train(begins_with_store(config, tmp_path / "store"), tmp_path / "other")


def test_a_store_goes_on_where_its_images_are_out_of_reach(config: ConfigDict, run: Path, tmp_path: Path) -> None:
    """By its name as transfer.store, and from the stage behind which a head is trained: not the last of the store."""
    own = copied(run, tmp_path / "own")
    of_run.extract(RunFolder(own), None, ("F6", "output"), tmp_path / "store", {})
    (own.parent / "images.npz").unlink()
    config = fresh(config, batch_size=32)
    config.model.update(name="lenet5", hidden=None)
    config.dataset.update(source=f"npz:{own.parent}/images.npz", image_size=32)
    config.transfer.update(mode="stored", weights=str(own), store=str(tmp_path / "store"))
    train(config, tmp_path / "trained")
    folder = RunFolder(tmp_path / "trained")
    assert folder.config.transfer.frozen_until == "F6"
    assert folder.config.dataset.classes == 3
    assert folder.result is not None


def test_a_store_may_be_of_other_classes(config: ConfigDict, run: Path, tmp_path: Path) -> None:
    """Of five, where the network knows three: the head that is trained on the activations is new."""
    images = np.random.default_rng(1).integers(0, 256, (100, 16, 16, 1), dtype=np.uint8)
    np.savez(tmp_path / "five.npz", image=images, label=np.arange(100) % 5)
    store = of_run.extract(RunFolder(run), f"npz:{tmp_path}/five.npz", ("F6", "output"), tmp_path / "store", {})
    assert store.classes == 5
    assert store.layers == {"F6": (84,), "output": (3,)}
    config = begins_with_store(config, tmp_path / "store")
    config.transfer.frozen_until = "F6"
    train(config, tmp_path / "trained")
    theirs, ours = (load_network(RunFolder(path), devices.make_mesh(1))[1] for path in (run, tmp_path / "trained"))
    assert bool((theirs["F6"]["kernel"] == ours["F6"]["kernel"]).all())
    assert ours["output"]["kernel"].shape == (84, 5)


def test_keys_that_a_store_contradicts(config: ConfigDict, run: Path, tmp_path: Path) -> None:
    extract(run, tmp_path / "store")
    one = begins_with_store(config, tmp_path / "store")
    one.dataset.crop = 0.5
    with pytest.raises(UserError, match=r"config.dataset.crop=0.5: the activations in .* are of 1.0"):
        train(one, tmp_path / "trained", given=("dataset.crop",))
    with pytest.raises(UserError, match=r"config.augment.rotate=10.0: the activations in .* are of 0.0"):
        train(begins_with_store(config, tmp_path / "store"), tmp_path / "trained", given=("augment.rotate",))
    free = begins_with_store(config, tmp_path / "store")
    free.dataset.workers, free.model.dropout = 1, 0.3
    train(free, tmp_path / "free", given=("dataset.workers", "model.dropout"))
    one = begins_with_store(config, tmp_path / "store")
    one.transfer.frozen_until = "C5"
    with pytest.raises(UserError, match=r"holds S4, F6, not C5"):
        train(one, tmp_path / "trained")
    one = begins_with_store(config, tmp_path / "store")
    one.transfer.mode = "finetune"
    with pytest.raises(UserError, match=r"mode=finetune: features:.* is of activations"):
        train(one, tmp_path / "trained")


def test_damaged_files_are_named(config: ConfigDict, run: Path, tmp_path: Path) -> None:
    store = extract(run, tmp_path / "store")
    (tmp_path / "store" / "train-F6-00000.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"train-F6-00000.npy: cannot be read .*; remove .* and run its command again"):
        store.activations("train", "F6")
    np.save(tmp_path / "store" / "train-F6-00000.npy", np.zeros((64, 83), np.float32))
    with pytest.raises(UserError, match=r"holds \(64, 83\), not \(64, 84\)"):
        store.activations("train", "F6")
    manifest = json.loads((tmp_path / "store" / "store.json").read_text())
    del manifest["config"]["dataset"]["crop"]
    (tmp_path / "store" / "store.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"is of another version of this program .*; extract again"):
        train(begins_with_store(config, tmp_path / "store"), tmp_path / "trained")
    (tmp_path / "store" / "store.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match="is of version 99"):
        Store(tmp_path / "store")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layer=fc7"], "--layer=fc7: the network has the stages C1, S2, C3, S4, C5, F6, output"),
        (["--layer=F6", "--config.model.name=mlp"], "config.model.name=mlp: the network is the run's"),
        ([], "--run=FOLDER, --layer=STAGE and --output=FOLDER are needed"),
        (["--layer=F6", "--source=features:x"], "features:x: is of activations"),
    ],
)
def test_what_cannot_be_extracted(
    run: Path, tmp_path: Path, one_line_error: Callable[..., str], flags: list[str], message: str
) -> None:
    assert message in one_line_error("extract", f"--run={run}", f"--output={tmp_path}/store", *flags)
    assert not (tmp_path / "store").exists()


def test_from_extraction_to_probe(command: Command, run: Path, tmp_path: Path) -> None:
    process = command("extract", f"--run={run}", "--layer=F6", f"--output={tmp_path}/store")
    assert process.returncode == 0, process.stderr
    assert "F6 [84] of 64 train, 8 validation, 18 test images, float32" in process.stdout
    process = command("probe", f"--features={tmp_path}/store", "--method=knn", f"--output={tmp_path}/knn.json")
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "knn.json").read_text())["count"] == 18


def test_activations_know_their_size() -> None:
    shards = (np.zeros((4, 3), np.float32), np.ones((2, 3), np.float32))
    activations = Activations(shards, np.arange(3, dtype=np.int32), views=2)
    assert (activations.total, activations.rows, activations.nbytes) == (3, 6, 72)
    np.testing.assert_array_equal(activations.take(np.array([1, 4])).labels, [1, 1])


def test_what_stands_in_the_way_of_a_store(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds files that are no store's; choose another folder"):
        extract(run, tmp_path / "other")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.features.extraction._write_array", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room, and run the same"):
        extract(run, tmp_path / "store")
    own = copied(run, tmp_path / "own")
    text = json.loads((own / "config.json").read_text())
    text["dataset"]["source"] = ""  # as where weights have been imported
    (own / "config.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="--source=URI is missing: imported weights come without images"):
        of_run.extract(RunFolder(own), None, ("F6",), tmp_path / "third", {})


def test_more_images_than_a_list_can_hold_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "json_file", SimpleNamespace(fits=lambda text: False))
    with pytest.raises(
        UserError, match=r"store: 64 images are more than a store can list; extract the classes in parts"
    ):
        extract(run, tmp_path / "store")


def test_training_images_that_have_moved_are_no_test_either(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run.parent, tmp_path / "moved")
    images = (moved / "images.npz").rename(moved / "elsewhere.npz")
    config = json.loads((moved / "run" / "config.json").read_text())
    config["dataset"]["source"] = f"npz:{moved}/images.npz"
    (moved / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"\d+ of 18 test images are among those that .* was trained on"):
        of_run.extract(
            RunFolder(moved / "run"), f"npz:{images}", ("F6",), tmp_path / "store", {"dataset.split_seed": 1}
        )
