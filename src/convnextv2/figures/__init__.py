"""Figures of results, the same for every task: an image with captions, a confusion matrix."""

from convnextv2.figures.confusion import confusion_picture
from convnextv2.figures.sheet import prediction_sheet

__all__ = ["confusion_picture", "prediction_sheet"]
