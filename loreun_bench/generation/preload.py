"""What stages of this track import when they run: imported once, by the server that workers are forked from."""

import scipy.optimize
import scipy.stats  # noqa: F401
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: F401
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

import loreun_bench.generation.stages  # noqa: F401
