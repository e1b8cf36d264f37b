"""Read labels in the formats in which people have them, and write them as COCO files, lists and splits."""
