"""Convolutions and matrix products by oneDNN, on CPUs where jaxlib has it; without this room all works, more slowly.

XLA's own are used on GPUs and TPUs, on several devices, in files that are exported, and where OLDMASTERS_ONEDNN=0.
"""
