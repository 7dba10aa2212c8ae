"""Pictures without labels, however they lie: the 62M of V1 (table 1), folders, lists, WebDataset tars."""

from .pictures import Pictures
from .read import read_unit
from .sets import UNLABELED, units
from .units import Unit

__all__ = ["UNLABELED", "Pictures", "Unit", "read_unit", "units"]
