import json

import numpy as np
import pytest
import torch
from files import describe_weights

from forecast_cli import checkpoint
from forecast_cli.errors import CheckpointError
from forecast_cli.models import MODELS

LOADERS = {"model.safetensors": checkpoint.load_model, "last.ckpt": lambda run: checkpoint.load_state(run, "cpu")}


@pytest.fixture
def run(series_run, tmp_path):
    """A copy that a test may damage."""
    import shutil

    return shutil.copytree(series_run, tmp_path / "run")


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_forecasts_as_the_one_that_was_saved(name, tiny_model, tiny_config, context, tmp_path):
    model = tiny_model(name)
    checkpoint.save_model(tmp_path, model, tiny_config(name), parts={}, epoch=3)
    saved = checkpoint.load_model(tmp_path)
    assert torch.equal(saved.model(context, 4).fields, model(context, 4).fields)
    assert (saved.epoch, saved.domain, saved.config) == (3, model.domain, tiny_config(name))


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, b"\xff" * 8 + b"{}", b'{"format": 1}'])
@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(name, damage, run):
    (run / name).write_bytes(damage)
    with pytest.raises(CheckpointError, match=name) as error:
        LOADERS[name](run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_truncated_file_is_refused(name, share, run):
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=name):
        LOADERS[name](run)


@pytest.mark.parametrize("name", LOADERS)
def test_a_flipped_bit_is_noticed_or_changes_nothing(name, run):
    """Bits that pad or name parts of an archive may flip unnoticed; what is loaded is what was written, or nothing is."""
    content, generator = (run / name).read_bytes(), np.random.default_rng(0)
    whole, refused = flat(LOADERS[name](run)), 0
    for place in generator.integers(8 * len(content), size=120):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        (run / name).write_bytes(damaged)
        try:
            found = flat(LOADERS[name](run))
        except CheckpointError:
            refused += 1
        else:
            assert found == whole
    assert refused > 60


def flat(loaded) -> str:
    """All that was loaded, as text that tells every bit."""
    if isinstance(loaded, checkpoint.SavedModel):
        loaded = (loaded.model.state_dict(), loaded.config.model_dump_json(), loaded.parts, loaded.epoch)
    if isinstance(loaded, dict):
        return "{" + ",".join(f"{key}:{flat(value)}" for key, value in loaded.items()) + "}"
    if isinstance(loaded, (list, tuple)):
        return "[" + ",".join(flat(value) for value in loaded) + "]"
    return str(loaded.tolist()) if isinstance(loaded, torch.Tensor) else repr(loaded)


def test_a_header_that_claims_to_be_huge_is_not_read(run):
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + content[8:])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.describe_run(run)


def test_a_training_state_is_loaded_without_executing_what_it_holds(run, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"format": 1, "bad": Malicious()}, run / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        checkpoint.load_state(run, "cpu")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("lost", ["x", "hour", None])
def test_a_damaged_climatology_is_refused(lost, run):
    import h5py

    path = run / "climatology.nc"
    if lost is None:
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with h5py.File(path, "r+") as file:
            del file[lost]
            file[lost] = "text"
    with pytest.raises(CheckpointError, match=r"climatology\.nc: damaged"):
        checkpoint.load_model(run)


def test_another_version_of_the_format_is_refused(run):
    description = json.loads((run / "model.json").read_text())
    describe_weights(run, json.dumps(description | {"format": 99}))
    with pytest.raises(CheckpointError, match="another version"):
        checkpoint.load_model(run)


def test_weights_of_another_architecture_are_refused_with_the_first_difference(run):
    description = json.loads((run / "model.json").read_text())
    description["config"]["model"]["hidden"] = [7]
    describe_weights(run, json.dumps(description))
    with pytest.raises(CheckpointError, match=r"encoder.*the model needs \(7, "):
        checkpoint.load_model(run)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such run"):
        checkpoint.load_model(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.load_model(tmp_path)
    with pytest.raises(CheckpointError, match="nothing to resume"):
        checkpoint.load_state(tmp_path, "cpu")
