"""SSIMULACRA 2 [1], version 2.1: how visible compression is, by structure and edges at six scales.

Agrees with libjxl 0.11.2 to 0.02 on photographs; where they are flat and nearly lossless, libjxl's
blur, a recursion in float32, costs it up to 1.5 (this is float64). The package ssimulacra2 0.3.0
blurs the borders otherwise and is off by 0.4 to 3.

[1] J. Sneyers 2022, tools/ssimulacra2 of libjxl, where the constants come from.
[2] D. Charalampidis 2016, "Recursive implementation of the Gaussian filter using truncated cosine
    functions".
"""

from collections.abc import Iterator

import numpy as np

MIN_SIDE = 7 * 2**5 + 1  # pixels: 225; then the last of the six scales has 8 pixels
_SCALES = 6
_C2 = 0.0009
# The Gaussian of deviation 1.5 of [2]: its centre and one side.
_BLUR = (0.26462110496, 0.21292859186, 0.10933537309, 0.03601111467, 0.00941436781)
_LMS_OF_RGB = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.55180986650955360],
    ]
)
_LMS_BIAS = 0.0037930732552754493
_POSITIVE_X, _POSITIVE_Y, _POSITIVE_B = (14, 0.42), (1, 0.01), (1, 0.55)  # factor, offset
# By scale (rows), of X, Y and B: structure, edges added, edges lost; as means, then as 4-norms.
_WEIGHTS_X = (
    (0, 0.0007376606707406586, 0, 0, 0.0007793481682867309, 0),
    (0, 0.0004371155730107379, 0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752),
    (0, 0.0016406437456599754, 0, 1.8422455520539298, 11.441172603757666, 0),
    (0.0007989109436015163, 0.000176816438078653, 0, 1.8787594979546387, 10.94906990605142, 0),
    (
        *(0.0007289346991508072, 0.9677937080626833, 0),
        *(0.00014003424285435884, 0.9981766977854967, 0.00031949755934435053),
    ),
    (0.0004550992113792063, 0, 0, 0.0013648766163243398, 0, 0),
)
_WEIGHTS_Y = (
    (0, 0, 0, 7.466890328078848, 0, 17.445833984131262),
    (0.0006235601634041466, 0, 0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264),
    (225.20515300849274, 0, 0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985),
    (176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408),
    (0, 0, 0, 34.77906344483772, 44.835625328877896, 0),
    (0, 0, 0, 0, 0, 0),
)
_WEIGHTS_B = (
    (0, 0.0008680556573291698, 0, 0, 0, 0),
    (0, 0.0005313191874358747, 0, 0.00016533814161379112, 0, 0),
    (0, 0, 0, 0.0004179171803251336, 0.0017290828234722833, 0),
    (0.0020827005846636437, 0, 0, 8.826982764996862, 23.19243343998926, 0),
    (
        *(95.1080498811086, 0.9863978034400682, 0.9834382792465353),
        *(0.0012286405048278493, 171.2667255897307, 0.9807858872435379),
    ),
    (0, 0, 0, 0.0005130064588990679, 0, 0.00010854057858411537),
)
_WEIGHTS = np.array([_WEIGHTS_X, _WEIGHTS_Y, _WEIGHTS_B]).reshape(3, _SCALES, 2, 3)


def score(original: np.ndarray, restored: np.ndarray) -> float:
    """Return the score, at most 100, of sRGB images: uint8 [H,W,3], sides of MIN_SIDE or more."""
    x, y = _linear(original), _linear(restored)
    total = 0.0
    for scale in range(_SCALES):
        if scale:
            x, y = _halved(x), _halved(y)
        norms = [_norms(error) for error in _errors(_xyb(x), _xyb(y))]
        total += float(np.sum(_WEIGHTS[:, scale] * np.transpose(norms)))
    total *= 0.9562382616834844
    total = np.polyval((6.248496625763138e-05, -0.020884521182843837, 2.326765642916932, 0), total)
    return 100 - 10 * max(float(total), 0) ** 0.6276336467831387


def _linear(img: np.ndarray) -> np.ndarray:
    """Return linear light [3,H,W] of sRGB."""
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return np.moveaxis(linear[img], 2, 0)


def _xyb(linear: np.ndarray) -> np.ndarray:
    """Return X, Y and B - Y of JPEG XL's colour space, scaled and shifted to be positive."""
    light = np.tensordot(_LMS_OF_RGB, linear, 1) + _LMS_BIAS
    long, medium, short = np.cbrt(np.maximum(light, 0)) - np.cbrt(_LMS_BIAS)
    x, y = (long - medium) / 2, (long + medium) / 2
    scaled = zip((x, y, short - y), (_POSITIVE_X, _POSITIVE_Y, _POSITIVE_B), strict=True)
    return np.stack([factor * plane + offset for plane, (factor, offset) in scaled])


def _errors(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the maps of errors [3,h,w] of structure, of edges added and of edges lost."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    covariance = _blurred(x * y) - mean_x * mean_y
    variances = (_blurred(x * x) - mean_x**2) + (_blurred(y * y) - mean_y**2)
    luminance = 1 - (mean_x - mean_y) ** 2
    yield np.maximum(1 - luminance * (2 * covariance + _C2) / (variances + _C2), 0)
    added = (1 + np.abs(y - mean_y)) / (1 + np.abs(x - mean_x)) - 1
    yield np.maximum(added, 0)
    yield np.maximum(-added, 0)


def _norms(errors: np.ndarray) -> list[np.ndarray]:
    """Return the mean and the 4-norm of each plane."""
    return [errors.mean((1, 2)), np.square(np.square(errors)).mean((1, 2)) ** 0.25]


def _blurred(planes: np.ndarray) -> np.ndarray:
    """Return planes [3,h,w] blurred, with zeros around them."""
    from scipy.ndimage import correlate1d

    kernel = (*_BLUR[:0:-1], *_BLUR)
    rows = correlate1d(planes, kernel, axis=1, mode="constant")
    return correlate1d(rows, kernel, axis=2, mode="constant")


def _halved(planes: np.ndarray) -> np.ndarray:
    """Return the means of 2x2 samples, [3,⌈h/2⌉,⌈w/2⌉]; the last row and column count twice."""
    odd = [(0, size % 2) for size in planes.shape[1:]]
    c, h, w = (planes := np.pad(planes, [(0, 0), *odd], mode="edge")).shape
    return planes.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))
