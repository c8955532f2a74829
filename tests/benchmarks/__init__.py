"""Benchmarks: one command, `python -m tests.benchmarks`, prints every figure beside what it is measured against.

A ratio is the median over pairs taken in turn (A B A B …), in one process, after a warm-up, so that it holds on a machine
whose speed drifts. No test asserts these numbers.
"""
