"""Imported once by the process that all forked parties come from."""

import torch._dynamo
import torch.optim  # noqa: F401

import tests.integration.forked_party  # noqa: F401
