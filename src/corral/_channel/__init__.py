"""Frames between two processes: the vocabulary both sides of a link share."""
