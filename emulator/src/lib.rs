//! A drop-in `libcuda.so` that executes PTX on the CPU.
