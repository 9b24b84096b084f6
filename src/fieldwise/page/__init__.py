"""The parts that report pages share: the frame of a file that asks nothing of any other place, escaped markup, the look.

Stages build their pages of it. Imports nothing of this package.
"""
