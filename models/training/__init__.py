"""Training of classifiers and localisers: data, augmentation, the loop, and what a run leaves behind."""
