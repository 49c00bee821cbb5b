"""The figures, one module each: `draw` takes what a study measured and gives a figure. Equal input gives equal bytes.

Names and words only: nothing here is imported by a figure, so that its looks hang on its own module and on `style` alone.
"""

FIGURES = {  # figure -> what it is made of: results/<study>.csv or results/<study>.samples.npz
    "figure2": "samples",
    "figure4": "samples",
    "figure5": "results",
    "figure6": "samples",
    "figure7": "results",
    "figure8": "results",
}
RESAMPLED = (
    "figure5",
    "figure7",
)  # which take results/<study>.predictions.npz too: whiskers of the test data's sampling
STUDIES = {  # figure -> the study of the paper's figure; study=<name> on the command line takes another
    "figure2": "ablation",
    "figure4": "ablation",
    "figure5": "ablation",
    "figure6": "ablation",
    "figure7": "alpha_beta",
    "figure8": "cub200",
}
ALTERNATIVES = {  # what a reader who cannot see the figure is told
    "figure2": "Sample training images in a row; below each, in one line an attribute, the names of its attribute values. "
    "A dash stands for an unlabelled attribute.",
    "figure4": "Three scatter plots of the same test images by their category, attribute and final features, projected on "
    "two principal components, one colour and marker a class. Under each, measured in the whole feature space: silhouette "
    "by class and the share of images whose nearest neighbour is of the same class.",
    "figure5": "Bars of rank-1, 5, 10, 20 and mAP for Baseline-2, Att-1, Att-2 and A3M. The numbers stand in the table Figure 5.",
    "figure6": "Test images in rows: the image, the attribute-guided map of five attributes laid over it with the predicted "
    "value, the merged attention weights with their mean, and the rank-1 result, framed and marked right or wrong.",
    "figure7": "Two panels: accuracy along alpha and along beta. The numbers stand in the table Figure 7.",
    "figure8": "Bars of the accuracy of each attribute: Baseline-2, A3M and always guessing the commonest value, with the "
    "unweighted mean over attributes at the top.",
}
