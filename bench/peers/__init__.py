"""What a user would write instead: each as a good engineer does in an afternoon."""
