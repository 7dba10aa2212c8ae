"""`depth-anything serve`: an HTTP API and its page (extra `web`). `depth-anything page`: the page without a server."""
