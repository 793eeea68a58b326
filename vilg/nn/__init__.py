"""Neural building blocks: who attends to whom, attention, decoding, embeddings, the transformer."""
