"""Networks: the denoiser, the text encoders and the autoencoders."""

from lingen_kit.models.autoencoder import Autoencoder, PixelSpace
from lingen_kit.models.denoiser import Denoiser
from lingen_kit.models.text_encoder import TextEncoder, WordEncoder

__all__ = ["Autoencoder", "Denoiser", "PixelSpace", "TextEncoder", "WordEncoder"]
