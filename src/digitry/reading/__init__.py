"""Image bytes to digits: image, find, lines, decode, glyph, classifier, joined by reader."""
