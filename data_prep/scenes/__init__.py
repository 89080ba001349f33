"""Compositional scenes: what they hold, how they look, what people say of them.

A scene has two or three objects (up to four in the base checkpoint's pretraining), one per quadrant of
the image. The quadrants line up with the visual tokens of the small base checkpoint, so that
a model of a few million parameters can read them; what is hard is which scene of many a sentence means.
"""
