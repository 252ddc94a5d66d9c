from .codec.batch import compress_batch as compress_batch
from .codec.batch import decompress_batch as decompress_batch
from .codec.differentiable import Estimate as Estimate
from .codec.differentiable import forward as forward
from .codec.files import compress as compress
from .codec.files import decompress as decompress
from .codec.files import decompress_picture as decompress_picture
from .codec.files import thumbnail as thumbnail
from .codec.info import Info as Info
from .codec.info import inspect as inspect
from .errors import BitstreamError as BitstreamError
from .frozen.model import FrozenModel as FrozenModel
from .frozen.zoo import load as load
from .frozen.zoo import models as models
from .io.picture import Picture as Picture
from .qstep import QSTEP_MAX as QSTEP_MAX
from .qstep import QSTEP_MIN as QSTEP_MIN

__version__: str
