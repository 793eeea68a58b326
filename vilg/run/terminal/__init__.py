"""Between a verb and the person: options, inputs, outputs, progress."""
