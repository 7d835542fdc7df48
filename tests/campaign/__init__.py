"""Kills and mutated inputs by the hundred, drawn from a seed and judged by rules: ``python -m campaign``."""
