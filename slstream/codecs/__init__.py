"""Tensor to bytes and back: contract, registry by id, and the codecs. Pure."""
