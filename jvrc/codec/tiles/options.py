"""How an image is to be coded at a step."""

from typing import NamedTuple

from jvrc.codec.tiles.latent_coder import CoderOf


class EncoderOptions(NamedTuple):
    """What the encoder of an image, of a tile and the search for a step have in common."""

    coder_of: CoderOf
    effort: int = 0  # of the search for symbols, 0 … 3
    masking: bool = False  # whether that search weighs errors by what the eye sees of them
    patches: bool = False  # whether blocks may be coded without the model (jvrc.codec.patches)
    progress: bool = False  # show a bar on stderr during that search
