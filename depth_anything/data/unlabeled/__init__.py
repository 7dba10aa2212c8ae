"""Pictures without labels: the eight sets of V1 Table 1, folders, lists, databases, WebDataset tars, videos."""
