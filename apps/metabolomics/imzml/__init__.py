"""imzML as people have it: read by byte ranges from any storage, and nothing misread in silence."""

from apps.metabolomics.imzml.dataset import Dataset, SpectrumIndex, tasks
from apps.metabolomics.imzml.opening import open_dataset
from apps.metabolomics.imzml.quirks import Quirk
from apps.metabolomics.imzml.spectra import Spectra, read_spectra
from apps.metabolomics.imzml.writing import write_imzml

__all__ = ["Dataset", "Quirk", "Spectra", "SpectrumIndex", "open_dataset", "read_spectra", "tasks", "write_imzml"]
