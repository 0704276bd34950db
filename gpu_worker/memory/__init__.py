"""Memory of the engine: models and LoRAs within byte budgets, and what to do when memory runs out anyway."""

from gpu_worker.memory.budgets import Budgets
from gpu_worker.memory.ladder import Rung, Stage
from gpu_worker.memory.loras import LoraLease, LoraSource, LoraStore, LoraWeights
from gpu_worker.memory.recovery import Decision, Measures, Recovery, SizeKey
from gpu_worker.memory.rungs import apply, decoding
from gpu_worker.memory.store import Lease, ModelStore, Resident

__all__ = [
    "Budgets",
    "Decision",
    "Lease",
    "LoraLease",
    "LoraSource",
    "LoraStore",
    "LoraWeights",
    "Measures",
    "ModelStore",
    "Recovery",
    "Resident",
    "Rung",
    "SizeKey",
    "Stage",
    "apply",
    "decoding",
]
