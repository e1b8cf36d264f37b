"""What a network looks at: attention, receptive fields, what a prediction depends on, and how alike layers are."""
