"""Image bytes to digits: image, segment, glyph, classifier, joined by reader, shown by render."""
