"""TrainState: the arrays that an update changes and that a checkpoint holds."""

from typing import Any

import flax.struct

from vilg.types import Params


@flax.struct.dataclass
class TrainState:
    """`step` is the number of completed updates; `ema` is the moving average of the parameters, or
    None where the experiment keeps no average; `statistics` is the result of
    Model.init_statistics, which updates change without gradients.
    """

    step: Any
    params: Params
    optimizer: Any
    ema: Any
    statistics: Any

    @property
    def best_params(self) -> Params:
        """The parameters that evaluation and sampling use: the moving average if there is one."""
        return self.params if self.ema is None else self.ema
