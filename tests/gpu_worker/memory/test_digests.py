"""Digests, as a shell would compute them; sizes told from headers."""

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gpu_worker.errors import ModelUnavailable
from gpu_worker.memory import digest_of
from gpu_worker.memory.digests import Digests, local_path
from gpu_worker.memory.sources import estimated_bytes
from gpu_worker.memory.weights import bytes_of
from gpu_worker.pipelines import load
from gpu_worker.request import ModelSource

SHELL = "find . -name '*.safetensors' -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"


def test_a_folder_as_the_shell_does_it(sd_folder: Path) -> None:
    printed = subprocess.run(SHELL, shell=True, cwd=sd_folder, capture_output=True, text=True, check=True)
    assert digest_of(str(sd_folder)) == printed.stdout.split()[0]


def test_a_file_as_everybody_does_it(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"abc")
    assert digest_of(str(file)) == hashlib.sha256(b"abc").hexdigest()


def test_only_changed_files_are_read_again(
    sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    compute = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        read.append(Path(file.name).parent.name)
        return compute(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    folder = tmp_path / "copy"
    shutil.copytree(sd_folder, folder)
    digests = Digests()
    before = digests.of(str(folder))
    assert digests.of(str(folder)) == before
    assert sorted(read) == ["text_encoder", "unet", "vae"]
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert digests.of(str(folder)) != before
    assert read[3:] == ["vae"]


def test_what_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no weight files"):
        digest_of(str(tmp_path))
    with pytest.raises(ModelUnavailable, match="missing"):
        digest_of(str(tmp_path / "nothing"))


def test_a_hub_id_that_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_worker.memory.digests.snapshot_download", lambda *_, **__: str(tmp_path))
    assert local_path("owner/name") == tmp_path


def test_the_estimate_is_what_loading_takes(source: ModelSource) -> None:
    measured = bytes_of(load(source, torch.float32))
    estimated = estimated_bytes(source.location, 4)
    assert abs(estimated - measured) <= 0.01 * measured
    assert estimated_bytes(source.location, 2) == estimated // 2


def test_variants_and_checkpoints_beside_the_parts_do_not_count(sd_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sd_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.copy(weights, folder / "all-in-one.safetensors")
    assert estimated_bytes(str(folder), 4) == estimated_bytes(str(sd_folder), 4)


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<Q", 2**60), struct.pack("<Q", 4) + b"[1,]"])
def test_a_broken_file_has_no_estimate(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    assert estimated_bytes(str(file), 4) == 0


def test_a_single_file_counts_its_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(3, 4), "y": torch.tensor(1.0)}, file, metadata={"format": "pt"})
    assert estimated_bytes(str(file), 2) == 26
    assert estimated_bytes("owner/name", 2) == 0
