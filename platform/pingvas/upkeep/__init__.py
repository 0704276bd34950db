"""What piles up and nobody needs: rows past their time, objects without a row."""
