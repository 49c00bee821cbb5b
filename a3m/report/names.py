"""The names that results are read by: studies, methods, data sets, sources, and the columns of results/<study>.csv."""

STUDIES = {  # in the order of the report
    "ablation": "Table 1, Figures 2, 4, 5 and 6",
    "cub200": "Table 2 and Figure 8",
    "cub200_448": "Table 2 at the code's size",
    "compcars": "Table 3",
    "cub200_retrieval": "Table 4",
    "cars196_retrieval": "Table 5",
    "alpha_beta": "Figure 7",
    "photographs": "25 classes of real photographs, fine-tuned",
}
ON_REQUEST = ("photographs",)  # no part of `make repro`
METHODS = {  # in the order of print: comparators first, as in the paper's tables
    "identification_verification": "ResNet-50 (I+V)",
    "attr_id": "Attr-Id",
    "bilinear": "Bilinear-CNN",
    "npair": "Npairs",
    "lifted": "LiftedStructure",
    "proxy_anchor": "Proxy-Anchor",
    "bier": "BIER",
    "hdc": "HDC",
    "baseline1": "Baseline-1",
    "baseline2": "Baseline-2",
    "att1": "Att-1",
    "att2": "Att-2",
    "a3m_unlabelled": "A3M w/o attr-label",
    "a3m": "A3M",
}
LEARNED_REGION = ("att1", "a3m_unlabelled", "a3m")
LEARNED_ATTRIBUTE = ("att2", "a3m_unlabelled", "a3m")
LEARNED_ATTENTION = ("att1", "att2", "a3m_unlabelled", "a3m")
ATTRIBUTE_OUTPUTS = ("attr_id", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")
ATTRIBUTE_LABELS = ("attr_id", "baseline2", "att1", "att2", "a3m")  # trained with them
BACKBONES = {
    "resnet50": "ResNet-50",
    "bn_inception": "InceptionBN",
    "alexnet": "AlexNet",
    "googlenet": "GoogLeNet",
    "vgg16": "VGG-16",
}
DATASETS = {
    "market1501": "Market-1501",
    "cub200": "CUB-200-2011",
    "cub200_448": "CUB-200-2011",
    "compcars": "CompCars",
    "cub200_retrieval": "CUB-200-2011 (retrieval)",
    "cars196_retrieval": "CARS196 (retrieval)",
    "cub200_photographs": "CUB-200-2011 (25 classes of photographs)",
    "manifest": "your own data (manifest)",
}
SOURCES = {  # the word before each of our columns
    "twins": "twin",
    "raw": "ours",
    "raw subset": "subset",
}
RECIPES = {"": "The paper's recipe", "modern": "Modern recipe"}
STATUSES = ("finished", "failed", "missing")

FORM, FEATURE, NORMALISED = "head.form", "baseline1.feature", "head.normalise_scores"
SHUFFLED, RECIPE = "train.shuffle_attributes", "recipe"
BACKBONE, DIMENSION, ATTRIBUTES = "backbone.name", "head.d", "head.attributes"
HEIGHT = "data.height"
IDENTITY = ("key", "study", "dataset", "source", "method", "seed")
PROVENANCE = ("train.on", "train.epochs", "data", "code", "versions", "status", "reason")
NOT_SETTINGS = frozenset((*IDENTITY, *PROVENANCE, HEIGHT))  # HEIGHT is the study's, not a row's
