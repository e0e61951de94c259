"""Readers of a stream that processes import quickly."""

import os

import numpy as np


class Places:
    """Reads images of 1x1 pixels that say where they are."""

    def __call__(self, places):
        return places.astype(np.float32)[:, None, None, None, None]


class Fatal(Places):
    """Ends the process at a place."""

    def __call__(self, places):
        if 7 in places:
            os._exit(3)
        return super().__call__(places)
