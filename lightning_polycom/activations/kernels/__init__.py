"""Fast forward and backward passes of the formulas in `functional`, tested against them."""
