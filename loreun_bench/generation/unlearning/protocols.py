"""The two protocols of the generation track, difference by difference."""

from __future__ import annotations

from dataclasses import dataclass

from loreun_bench.harness.protocol import both, difference


@dataclass(frozen=True)
class Protocol:
    """Every place where the reference implementation and good practice part. The defaults are `corrected`."""

    whole_set: bool = difference(
        "every pass goes over all forget pictures; SalUn's code took the first batch at every step until 2026"
    )
    random_other: bool = difference(
        "the other concept c' is drawn for each sample (LoReUn eq. 3); SalUn's is always the next class"
    )
    one_latent: bool = difference(
        "both branches of the forget loss see one noisy latent; SalUn's code samples the autoencoder twice"
    )
    noise_of_t: bool = difference(
        "ESD trains at the timestep whose noise x_t has, up to a step of DDIM; its first code leaves the first step of "
        "sampling out and goes on for two more, so that of 1000 timesteps t is up to 58 above x_t's noise"
    )


PROTOCOLS = both(Protocol)
NOT_REPEATED = (
    "ESD takes x_t from the original model; its first code from the model being edited (start_from: current)",
    "ESD erases a class's whole prompt unless its scenario says otherwise; its authors the bare name (concept_text: '{}'), "
    "as here for concepts and in imagenette-sd",
    "FMN moves cross-attention alone; its code the whole denoiser (parameters: full), after a textual inversion that is not "
    "done here",
    "SalUn's pictures of nude and of clothed people were not published; the original model makes them anew",
    "pictures are sampled by DDIM, as the paper says; SalUn's and ESD's code sample them for scoring by LMS",
    "FID is on 2048 features of pictures of 0 … 255; SalUn's code takes 64 features of pictures of 0, 1 and 255 only: its "
    "values are on another scale",
)
