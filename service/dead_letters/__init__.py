"""Dead letters: listed, shown, and sent again."""
