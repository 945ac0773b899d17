"""Image bytes to digits: image, find, lines, decode, glyph, classifier, assemble, joined by reader."""
