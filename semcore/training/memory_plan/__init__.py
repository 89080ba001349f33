"""What a training will need, computed from its configuration alone: parameters, memory by ZeRO stage, steps, time."""
