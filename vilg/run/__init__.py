"""The verbs: what a person types. Each file is a verb or what several verbs share."""
