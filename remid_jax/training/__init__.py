"""SFT, GRPO and the co-evolution of reasoner and policy."""
