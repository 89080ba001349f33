"""Memory plan of a training from its configuration alone: parameters, memory by ZeRO stage, steps, time."""
