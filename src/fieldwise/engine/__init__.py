"""engine: runs our weights, on PyTorch through transformers or as GGUF on llama.cpp, behind one interface.

Takes a folder of weights (with an adapter) or a GGUF file; gives tokens, text and logits. It may import the ground
only (errors, records, files, hashing, extras, interfaces); stages and faces import it.
"""
