"""TrainState: everything that an update reads and writes, and one checkpoint holds."""

from typing import Any

import flax.struct

from vilg.types import Params


@flax.struct.dataclass
class TrainState:
    """`step` is the number of updates completed; `ema` is None where the experiment keeps none;
    `statistics` is what Model.init_statistics gives.
    """

    step: Any
    params: Params
    optimizer: Any
    ema: Any
    statistics: Any

    @property
    def best_params(self) -> Params:
        """What evaluation and sampling use: the average where there is one."""
        return self.params if self.ema is None else self.ema
