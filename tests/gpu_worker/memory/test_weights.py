"""Packing: the numbers, their layout and the tensors' identity survive every move."""

import gc
import weakref
from typing import Any

import pytest
import torch

from gpu_worker.memory.transfers import PlainTransfer
from gpu_worker.memory.weights import Weights, bytes_of, tensors_of
from gpu_worker.pipelines import load
from gpu_worker.request import ModelSource
from tests.gpu_worker.memory.bench import FakePipe

CPU = torch.device("cpu")


class _Counting(PlainTransfer):
    """Remembers the buffers on "the device"."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.sent: list[weakref.ref[torch.Tensor]] = []
        self.sizes: list[int] = []

    def host_buffer(self, size: int) -> torch.Tensor:
        self.sizes.append(size)
        return super().host_buffer(size)

    def send(self, buffers: Any) -> list[torch.Tensor]:
        copies = super().send(buffers)
        self.sent += [weakref.ref(copy) for copy in copies]
        return copies


@pytest.fixture
def pipe(source: ModelSource) -> Any:
    pipe = load(source, torch.float32)
    pipe.unet.to(memory_format=torch.channels_last)
    return pipe


def test_a_real_pipeline_goes_there_and_back(pipe: Any) -> None:
    before = [(tensor, tensor.clone(), tensor.stride()) for tensor in tensors_of(pipe)]
    transfer = _Counting()
    weights = Weights(pipe, transfer, CPU, chunk=100_000)
    assert weights.bytes == bytes_of(pipe) == sum(tensor.nbytes for tensor, _, _ in before)
    assert weights.bytes <= sum(transfer.sizes) <= weights.bytes + 256 * len(before)
    assert len(transfer.sizes) > 10
    for move in (weights.to_device, weights.to_host, weights.to_device, weights.drop_host, weights.to_host):
        move()
        assert [id(tensor) for tensor in tensors_of(pipe)] == [id(tensor) for tensor, _, _ in before]
        for tensor, numbers, stride in before:
            assert torch.equal(tensor, numbers)
            assert tensor.stride() == stride


def test_leaving_the_device_frees_its_buffers(pipe: Any) -> None:
    transfer = _Counting()
    weights = Weights(pipe, transfer, CPU)
    weights.to_device()
    address = pipe.unet.conv_in.weight.data_ptr()
    weights.to_host()
    gc.collect()
    assert [buffer() for buffer in transfer.sent] == [None]
    assert (weights.on_host, weights.on_device) == (True, False)
    assert pipe.unet.conv_in.weight.data_ptr() != address


def test_tied_tensors_stay_tied() -> None:
    pipe = FakePipe(2)
    twin = torch.nn.Linear(1, 1, bias=False)
    twin.weight = pipe.layer.weight
    pipe.components["twin"] = twin
    weights = Weights(pipe, PlainTransfer(CPU), CPU)
    weights.to_device()
    assert weights.bytes == pipe.layer.weight.nbytes
    assert twin.weight is pipe.layer.weight


def test_gaps_and_buffers_and_odd_tensors() -> None:
    pipe = FakePipe(1)
    wide = torch.arange(20.0).reshape(4, 5)
    pipe.layer.register_buffer("slice", wide[:, 1:3])
    pipe.layer.register_buffer("count", torch.tensor(3))
    pipe.layer.register_buffer("none", torch.empty(0))
    weights = Weights(pipe, PlainTransfer(CPU), CPU)
    weights.to_device()
    buffers = dict(pipe.layer.named_buffers())
    assert buffers["slice"].tolist() == wide[:, 1:3].tolist()
    assert buffers["count"].item() == 3
    weights.clear()
    assert bytes_of(pipe) == 0


def test_nothing_changes_when_the_copy_fails() -> None:
    class Full(PlainTransfer):
        def send(self, buffers: Any) -> list[torch.Tensor]:
            raise torch.OutOfMemoryError

    pipe = FakePipe(1)
    weights = Weights(pipe, Full(CPU), CPU)
    before = pipe.layer.weight.clone()
    with pytest.raises(torch.OutOfMemoryError):
        weights.to_device()
    assert (weights.on_host, weights.on_device) == (True, False)
    assert torch.equal(pipe.layer.weight, before)
