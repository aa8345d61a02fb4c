"""Models as ordinary PyTorch modules, and their files."""

from timl.nn.classifier import Classifier
from timl.nn.decompositions import decompositions
from timl.nn.devices import Device, checked_device, on_device, one_thread
from timl.nn.encoder import TaskEncoder
from timl.nn.pretrained import load_pretrained
from timl.nn.recurrent.film_lstm import FiLMLSTM
from timl.nn.seeding import seeded
from timl.nn.strong.classifier import StrongClassifier
from timl.nn.strong.deep_kernel import DeepKernel
from timl.nn.timl import TIML

__all__ = [
    "TIML",
    "Classifier",
    "DeepKernel",
    "Device",
    "FiLMLSTM",
    "StrongClassifier",
    "TaskEncoder",
    "checked_device",
    "decompositions",
    "load_pretrained",
    "on_device",
    "one_thread",
    "seeded",
]
