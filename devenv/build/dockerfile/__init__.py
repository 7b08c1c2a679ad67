"""The language: text to typed instructions, the expansion of words, and what is worth a warning. Pure, without I/O."""
