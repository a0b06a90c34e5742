"""Caption metrics: BLEU, ROUGE-L, CIDEr-D, METEOR's exact-and-stem part and METEOR itself through Java, and a tuple F."""
