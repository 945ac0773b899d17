"""What the reader learns from: strips, pages and single characters, composed by a seed.

`hands` holds isolated characters by writer, `strings` sets them beside each other, `paper` draws what lies
under and around writing, `camera` spoils the picture, and `strips` joins them with strips of real writing
for the line network. `pages` composes pages for the finder, `glyphs` single characters for the glyph model.
"""
