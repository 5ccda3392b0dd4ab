"""Array types that jaxtyping cannot express."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Names = NDArray[np.str_]
else:
    # At run time, strings of each length have their own type, which no annotation matches.
    Names = NDArray[Any]
