"""The figures of a study, by Optuna on matplotlib."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from tuning.storage import quiet_optuna
from tuning.study import Found

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Completed trials below which importances and parallel coordinates say nothing.
FEWEST = 3


def study_figures(found: Found) -> dict[str, Figure]:
    """Return the history and, of enough different trials, importances and parallel coordinates.

    With several objectives the history and so on are those of the first, and there is a Pareto front.
    """
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as draw

    several = len(found.objectives) > 1
    target = {"target": lambda trial: trial.values[0], "target_name": found.objectives[0]} if several else {}
    complete = [outcome.values for outcome in found.outcomes if outcome.values]
    varied = len(complete) >= FEWEST and len({values[0] for values in complete}) > 1
    figures = {}
    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with quiet_optuna(), warnings.catch_warnings():
            # Optuna remarks that some parameters were tried seldom.
            warnings.simplefilter("ignore", UserWarning)
            drawn = {"history": draw.plot_optimization_history(found.study, **target)}
            if varied and any(outcome.params for outcome in found.outcomes):
                drawn["importances"] = draw.plot_param_importances(found.study, **target)
                drawn["parallel_coordinates"] = draw.plot_parallel_coordinate(found.study, **target)
            if several:
                names = list(found.objectives)
                drawn["pareto_front"] = draw.plot_pareto_front(found.study, target_names=names)
        for name, axes in drawn.items():
            figures[name] = axes.figure
            plt.close(axes.figure)
    finally:
        plt.switch_backend(backend)
    return figures
