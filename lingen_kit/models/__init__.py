"""Networks: the denoiser, the text encoders and the autoencoders."""

from lingen_kit.models.autoencoder import Autoencoder, PixelSpace
from lingen_kit.models.denoiser import Denoiser
from lingen_kit.models.tae import TAE
from lingen_kit.models.text_encoder import TextEncoder, WordEncoder
from lingen_kit.models.text_encoder_joint import JointEncoder
from lingen_kit.models.text_encoder_transformers import MiniLM, TransformersEncoder

__all__ = [
    "TAE",
    "Autoencoder",
    "Denoiser",
    "JointEncoder",
    "MiniLM",
    "PixelSpace",
    "TextEncoder",
    "TransformersEncoder",
    "WordEncoder",
]
