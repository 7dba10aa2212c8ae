"""Send the log of a run to Weights & Biases or MLflow, if installed. Neither is a dependency."""

import importlib
import json
from pathlib import Path
from typing import Any, Literal, get_args

Service = Literal["wandb", "mlflow"]


class Tracker:
    """A run at a tracking service, named after its folder; receives every line of curve.jsonl.

    Address and account come from the service's own environment variables (WANDB_*, MLFLOW_*).

    Args:
        recipe: as JSON.

    Raises:
        ValueError: the service is unknown or not installed.
    """

    def __init__(self, service: str, folder: Path, recipe: str):
        if service not in get_args(Service):
            raise ValueError(f"--track {service}: expected one of {', '.join(get_args(Service))}")
        try:
            self.module: Any = importlib.import_module(service)
        except ImportError:
            raise ValueError(f"--track {service}: {service} is not installed: pip install {service}") from None
        self.service, name = service, folder.resolve().name
        settings = json.loads(recipe)
        if service == "wandb":
            self.run = self.module.init(
                project="depth-anything", name=name, id=name, resume="allow", dir=str(folder), config=settings
            )
        else:
            self.module.set_experiment("depth-anything")
            self.run = self.module.start_run(run_name=name)
            self.module.log_dict(settings, "recipe.json")

    def add(self, entry: dict[str, Any]) -> None:
        """Send one line; `entry` has the step."""
        values = {name: value for name, value in entry.items() if name != "step"}
        if self.service == "wandb":
            self.run.log(values, step=entry["step"])
        else:
            self.module.log_metrics(values, step=entry["step"])
