"""What a user may ask for: one typed spec per kind, joined in a discriminated union."""

from modelyard.domain.specs.base import JobSpec, Reference, find_references
from modelyard.domain.specs.registry import KINDS, Kind, Spec, parse_spec

__all__ = ["KINDS", "JobSpec", "Kind", "Reference", "Spec", "find_references", "parse_spec"]
