"""Measuring a model, and what is done with a measured one."""
