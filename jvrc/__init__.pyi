from .codec.image import compress as compress
from .codec.image import decompress as decompress
from .errors import BitstreamError as BitstreamError
from .frozen.model import FrozenModel as FrozenModel
from .frozen.zoo import load as load
from .frozen.zoo import models as models
from .qstep import QSTEP_MAX as QSTEP_MAX
from .qstep import QSTEP_MIN as QSTEP_MIN

__version__: str
