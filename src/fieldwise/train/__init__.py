"""Tune the base weights: LoRA SFT, then preferences, by TRL; checkpoints resume exactly; merged weights are what is measured.

In: `3_examples/`, base weights. Out: `4_adapters/`. Imports ground, run, and the tool `engine`.
"""
