"""Gate, convert, quantise, and prove that the file served behaves like the weights that were measured.

In: `4_adapters/`, `5_reports/`. Out: `6_builds/`: GGUF files, parity reports, model card. Imports ground, run, tools.
"""
