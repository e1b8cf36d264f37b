"""What a training costs on GPUs that one does not have: memory, images per second, days, traffic."""
