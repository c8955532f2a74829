"""Cerebellum: a grid engine, a hippocampal memory and a cerebellar circuit that keep a five-axis machine on its path."""
