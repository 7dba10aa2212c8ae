"""Models and states in parts: the rows of a whole start, states by step, a pickle that wants more than tensors."""

import pickle
from dataclasses import replace

import pytest
import torch
from drawn import Boxes, tiny
from safetensors.torch import load_file
from torch import nn

from depth_anything.train import loop, sharded_checkpoint
from depth_anything.train.batches import Data
from depth_anything.train.checkpoint import STATE_FILE, Run, older_steps
from depth_anything.train.distributed import Machine, Ranks, join
from depth_anything.train.initial_weights import start_model
from depth_anything.train.parts import built_in_parts, own_rows, take_rows


def test_a_model_that_is_built_in_parts_has_the_rows_of_one_that_is_built_whole(one_thread):
    recipe = tiny()
    whole = start_model(recipe, None)
    given = {
        key: torch.randn_like(tensor) for key, tensor in whole.state_dict().items() if key.startswith("pretrained")
    }
    for weights in (None, given):
        expected = start_model(recipe, weights).state_dict()
        for ranks in (Ranks(0, 3), Ranks(2, 3), Ranks(63, 64)):
            with built_in_parts(ranks):
                model = start_model(recipe, weights)
            rows = take_rows(model)
            assert rows.keys() == expected.keys() and all(parameter.is_meta for parameter in model.parameters())
            for key, tensor in expected.items():
                assert torch.equal(rows[key], own_rows(tensor, ranks)), key
                assert rows[key].untyped_storage().nbytes() <= -(-len(tensor) // ranks.world) * tensor[0].nbytes
    layer = nn.Linear(2, 2)  # outside the block everything is whole again
    assert type(layer.weight.data) is torch.Tensor and layer.weight.abs().max() > 0


def test_the_rows_of_all_processes_are_the_tensor():
    for count, world in ((7, 3), (2, 4), (1, 8), (12, 4)):
        tensor = torch.arange(3.0 * count).view(count, 3)
        assert torch.equal(torch.cat([own_rows(tensor, Ranks(rank, world)) for rank in range(world)]), tensor)


def test_the_last_states_stay_and_an_earlier_one_can_be_gone_on_from(tmp_path, one_thread):
    recipe, data = tiny(6), Data(Boxes(5))
    loop.train(recipe, tmp_path / "calm", data)
    for keep in (1, 3):
        out = tmp_path / f"keep{keep}"
        loop.train(recipe, out, data, machine=Machine(keep=keep), save_seconds=0)
        assert older_steps(out) == list(range(6 - keep + 1, 6))
    (out / "final.safetensors").unlink()
    (out / STATE_FILE).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"state\.pt is damaged or cut short .*: delete it to resume from step 5"):
        loop.train(recipe, out, data)
    (out / STATE_FILE).unlink()
    (out / "state-00000005.pt").rename(tmp_path / "moved")
    loop.train(recipe, out, data)  # from step 4
    calm, resumed = (load_file(folder / "final.safetensors") for folder in (tmp_path / "calm", out))
    assert all(torch.equal(calm[key], resumed[key]) for key in calm)
    with pytest.raises(ValueError, match="--keep 0"):
        Machine(keep=0)


def test_a_checkpoints_pickle_may_not_run_code(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("never",)

    folder = sharded_checkpoint.step_folder(tmp_path, 7)
    folder.mkdir(parents=True)
    (folder / ".metadata").write_bytes(pickle.dumps(Code()))
    model = nn.Linear(2, 2)
    run = Run(tiny(), model, model, torch.optim.AdamW(model.parameters()))
    with pytest.raises(ValueError, match=r"step-00000007 cannot be read .*print.*delete it to start the run again"):
        sharded_checkpoint.load(run, folder)


def test_what_is_unfinished_is_no_checkpoint(tmp_path):
    for name in ("step-00000004", "step-00000012", ".step-00000013.part", "step-x"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert sharded_checkpoint.saved_steps(tmp_path) == [4, 12] and sharded_checkpoint.saved_steps(tmp_path / "no") == []
    sharded_checkpoint.clean(tmp_path)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_only_what_would_not_fit_is_built_in_parts():
    assert loop.starts_in_parts(tiny(), Machine(shard=True)) and not loop.starts_in_parts(tiny(), Machine())
    assert not loop.starts_in_parts(replace(tiny(), variant="nano-lite0"), Machine(shard=True))


def test_a_wait_needs_a_length():
    with pytest.raises(ValueError, match="--timeout 0"), join(minutes=0):
        pass
