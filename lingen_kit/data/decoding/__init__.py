"""Decoding of media files with PyAV, Pillow and torchcodec; `lingen_kit.data.decode` is its face."""
