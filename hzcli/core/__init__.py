"""Windows, transforms, sampling: mathematics on tensors. No files, no printing."""
