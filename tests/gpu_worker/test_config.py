"""Settings, devices and what may be imported without torch."""

import subprocess
import sys

import pytest
import torch

from gpu_worker import devices
from gpu_worker.config import EngineConfig


def test_defaults_from_an_empty_environment() -> None:
    assert EngineConfig.from_env({}) == EngineConfig()
    assert EngineConfig.from_env({"PINGVAS_GPU_DEVICE": "", "PINGVAS_GPU_THREADS": " "}) == EngineConfig()


def test_every_variable() -> None:
    env = {
        "PINGVAS_GPU_DEVICE": "cuda:1",
        "PINGVAS_GPU_DTYPE": "FP16",
        "PINGVAS_GPU_MODEL_MEMORY_GIB": "5.5",
        "PINGVAS_GPU_THREADS": "3",
        "PINGVAS_GPU_COMPILE": "1",
    }
    assert EngineConfig.from_env(env) == EngineConfig("cuda:1", "fp16", 5.5, 3, compile=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PINGVAS_GPU_DEVICE", "tpu"),
        ("PINGVAS_GPU_DEVICE", "cuda:"),
        ("PINGVAS_GPU_DEVICE", "cpu:0"),
        ("PINGVAS_GPU_DTYPE", "int8"),
        ("PINGVAS_GPU_MODEL_MEMORY_GIB", "0"),
        ("PINGVAS_GPU_MODEL_MEMORY_GIB", "much"),
        ("PINGVAS_GPU_THREADS", "two"),
        ("PINGVAS_GPU_COMPILE", "perhaps"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        EngineConfig.from_env({name: value})


def test_cpu_computes_in_fp32_unless_told() -> None:
    assert devices.choose(EngineConfig(device="cpu")).dtype == torch.float32
    assert devices.choose(EngineConfig(device="cpu", dtype="bf16")).dtype == torch.bfloat16


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="cuda:99"):
        devices.choose(EngineConfig(device="cuda:99"))


def test_describe_ends_with_the_cpu() -> None:
    cpu = devices.describe()[-1]
    assert cpu.kind == "cpu"
    assert cpu.memory_total is not None
    assert cpu.memory_total > 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert devices.is_out_of_memory(error) is expected


def test_the_light_modules_import_no_torch() -> None:
    light = "request, errors, config, builtin, samplers, tickets, pictures"
    code = f"import sys; from gpu_worker import {light}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
