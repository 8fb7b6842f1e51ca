"""What can be seen in an activation or a trained decoder, without training it further."""
