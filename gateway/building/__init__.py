"""How the embedded builder turns a build context into a bundle, step by step."""
