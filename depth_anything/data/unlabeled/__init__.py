"""Images without labels: the eight sets of V1 Table 1, folders, lists, databases, WebDataset tars, videos."""

from depth_anything.system.moved import names_of

__getattr__ = names_of("data.unlabeled")
