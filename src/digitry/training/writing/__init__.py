"""What the line reader learns from: strips of handwriting, composed by a seed.

`hands` holds isolated characters by writer, `strings` sets them beside each other, `paper` draws what lies
under and around writing, `camera` spoils the picture, and `strips` joins them with strips of real writing.
"""
