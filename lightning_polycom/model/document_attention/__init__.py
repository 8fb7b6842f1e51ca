"""Causal attention that stays inside documents, in the way that suits the device."""

from lightning_polycom.model.document_attention.ways import Documents, attend, prepare

__all__ = ["Documents", "attend", "prepare"]
