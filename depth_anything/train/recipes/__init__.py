"""Every run of the papers, and ours, as a function that returns its configuration."""
