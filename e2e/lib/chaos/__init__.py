"""The chaos run: what is drawn from the seed, how each fault is done, what is recorded, and how that is judged.

Holds no scenario; e2e/chaos/run is the program, docs/chaos.md the manual.
"""
