"""Which sections of the policy matter for a conversation: decodings, words, embeddings, both."""
