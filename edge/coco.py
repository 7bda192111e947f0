"""COCO's category names and ids, and the older names that Darknet files use for some of them."""

from __future__ import annotations

# In the order of the ids 1..90; a gap is an id that COCO 2014/2017 detection does not use.
_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")

CATEGORY_IDS: dict[str, int] = {name: number for number, name in enumerate(_NAMES, start=1) if name}
"""Category name -> id of the 80 categories of COCO detection."""

ALIASES: dict[str, str] = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""Names from Pascal VOC that Darknet's `coco.names` kept -> COCO's own."""


def canonical(label: str) -> str:
    """Return a label in the form that names are compared in: lower case, single spaces, COCO's own name."""
    name = " ".join(label.lower().replace("_", " ").split())
    return ALIASES.get(name, name)
