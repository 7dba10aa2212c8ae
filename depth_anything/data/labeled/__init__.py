"""One module per labelled data set; each yields `data.sample.Sample`."""
