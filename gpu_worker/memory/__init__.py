"""Memory of the engine: models and LoRAs within byte budgets, and what to do when memory runs out anyway."""

from gpu_worker.memory.attempts import attempt
from gpu_worker.memory.budgets import Budgets
from gpu_worker.memory.digests import digest_of
from gpu_worker.memory.ladder import Rung, Stage
from gpu_worker.memory.lora_files import LoraWeights
from gpu_worker.memory.loras import LoraLease, LoraStore
from gpu_worker.memory.reader import MODULES
from gpu_worker.memory.recovery import Decision, Measures, Recovery, SizeKey
from gpu_worker.memory.residence import Lease, Resident
from gpu_worker.memory.rungs import apply, decoding
from gpu_worker.memory.sources import Source
from gpu_worker.memory.store import ModelStore

__all__ = [
    "MODULES",
    "Budgets",
    "Decision",
    "Lease",
    "LoraLease",
    "LoraStore",
    "LoraWeights",
    "Measures",
    "ModelStore",
    "Recovery",
    "Resident",
    "Rung",
    "SizeKey",
    "Source",
    "Stage",
    "apply",
    "attempt",
    "decoding",
    "digest_of",
]
