"""Pretrained networks, one file each: `backbone(...) -> nn.Module`."""
