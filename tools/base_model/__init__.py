"""The parts of `tools/make_base_model.py`: training text, tokenizer, network, file, measurement."""
