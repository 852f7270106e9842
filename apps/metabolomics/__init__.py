"""Which molecules are in an imaging mass spectrometry dataset: scores, ion images and false discovery rates."""
