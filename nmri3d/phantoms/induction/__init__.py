"""Induction: a two-layer attention-only transformer that continues what it has seen before."""
