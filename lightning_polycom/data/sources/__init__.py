"""Text in: documents streamed from files, Hugging Face data sets or the embedded corpus."""

from lightning_polycom.data.sources.document import Document, Position
from lightning_polycom.data.sources.rows import Columns
from lightning_polycom.data.sources.specification import check_output_apart
from lightning_polycom.data.sources.units import Unit, plan_units, read_documents, source_fingerprint

__all__ = [
    "Columns",
    "Document",
    "Position",
    "Unit",
    "check_output_apart",
    "plan_units",
    "read_documents",
    "source_fingerprint",
]
