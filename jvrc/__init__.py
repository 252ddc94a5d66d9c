"""jvrc: learned image compression, one model for all rates, in pure JAX.

    params = jvrc.load("jvrc2026")
    data = jvrc.compress(params, img, qstep=4)      # bytes
    img = jvrc.decompress(params, data)             # uint8 [H,W,3]

The public names are listed in `__init__.pyi`; each is imported on first use, so that importing the
package costs nothing.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
