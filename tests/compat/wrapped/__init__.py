"""A kernel's package as they are written for ipykernel: it knows no other one."""
