"""Attention: the form that runtimes know where a graph is exported, and torch's fused kernel where torch compiles."""

import torch
import torch.nn.functional as F

from depth_anything.network import dinov2


def test_compiled_attention_is_the_fused_one(monkeypatch):
    """Also where Dynamo holds `is_exporting` for true, as torch 2.11 does: there it kept a matrix for every head."""
    monkeypatch.setattr(dinov2, "is_exporting", lambda: True)
    called = []

    def backend(graph: torch.fx.GraphModule, inputs):
        called.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch._dynamo.reset()
    q, k, v = (torch.randn(1, 2, 8, 4) for _ in range(3))
    compiled = torch.compile(dinov2.attend, backend=backend)(q, k, v)
    torch._dynamo.reset()
    assert called == [F.scaled_dot_product_attention]
    assert dinov2.exports()
    torch.testing.assert_close(dinov2.attend(q, k, v), compiled)
