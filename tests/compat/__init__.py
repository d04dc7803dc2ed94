"""Programs and kernels that were written for ipykernel, run on this kernel."""
