"""Types of arrays that jaxtyping has no name for."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Names = NDArray[np.str_]
else:
    # At run time strings of each length are a type of their own, which no annotation matches.
    Names = NDArray[Any]
