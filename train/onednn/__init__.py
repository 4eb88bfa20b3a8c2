"""Layers by oneDNN and by kernels of our own on CPUs, with the extra `onednn`; without this room all is only slower.

XLA's own are used on GPUs and TPUs, on several devices, in files that are exported, and where OLDMASTERS_ONEDNN=0.
"""
