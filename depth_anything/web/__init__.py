"""`depth-anything serve`: an HTTP API and the page that it serves (extra `web`)."""
