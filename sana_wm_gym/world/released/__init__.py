"""NVIDIA's released generators: files, offloading, intrinsics, whole clips."""
