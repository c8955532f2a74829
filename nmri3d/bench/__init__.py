"""Validation reports: how well fast methods agree with exact ones, and what FLAIR can and cannot tell."""
