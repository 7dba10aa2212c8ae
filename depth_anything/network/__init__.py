"""The network of both papers: DINOv2 encoder, DPT decoder, metric heads, and the size rule at its input."""
