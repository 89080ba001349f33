"""Pretraining of the small base checkpoint on drawn scenes."""
