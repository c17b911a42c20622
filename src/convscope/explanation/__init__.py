"""What a network learned: exemplars, descriptions, ablation, maximization, maps, evidence, probes; as cards."""
