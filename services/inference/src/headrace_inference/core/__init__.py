"""What inference knows without a network: tensors, signatures, versions, releases and cache keys."""
