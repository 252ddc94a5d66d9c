"""Claims about images that are no photographs: the shipped model's rate stays sane on them.

Trained on photographs, a float h_s gives text and dither absurd scales, up to 20 bits a pixel. The
integer h_s saturates just beyond the range of photographs (FORMAT.md, section 5). By default such
images are patched besides (test_patches.py).
"""

import numpy as np
import pytest
from unnatural import SIDE, drawings

import jvrc


@pytest.fixture(scope="module")
def images(photo):
    return drawings(photo)


@pytest.mark.parametrize(
    ("qstep", "drawn", "highest", "mean"), [(1.5, 4.4, 7.5, 4.2), (6.0, 2.4, 5.2, 2.2)]
)
def test_the_rate_stays_sane_on_what_is_no_photograph(images, qstep, drawn, highest, mean):
    """Without saturation the same weights take up to 20.7 and 17.1 bits a pixel.

    drawn: the limit for text, screens and sparse dots; others are harsher than any drawing.
    """
    model = jvrc.load("jvrc2026")
    found = {
        name: len(jvrc.compress(model, img, qstep, patches=False)) for name, img in images.items()
    }
    bpp = {name: 8 * size / SIDE**2 for name, size in found.items()}
    assert max(bpp[name] for name in images if name.endswith(("text", "dark", "screen"))) <= drawn
    assert bpp["sparse noise"] <= drawn
    assert max(bpp.values()) <= highest, bpp
    assert np.mean(list(bpp.values())) <= mean, bpp
